package latency

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

var update = flag.Bool("update", false, "rewrite testdata")

// TestGoldenPlans writes down what is planned. It reads a namespace with a
// link, which only root can make, and needs no netem: what is planned for it
// can be read without.
func TestGoldenPlans(t *testing.T) {
	w := newWire(t)
	before := w.snapshot(w.target.Target)
	for _, form := range forms {
		steps := w.plan(form.backend, form.fields)
		golden(t, form.name, w.plain(describe(steps)))
	}
	w.target.file("etc/hosts", "10.81.0.1 db.test\nfd81::1 db.test\n")
	golden(t, "names", w.plain(describe(w.plan("", "loss: 100, hosts: [db.test], exclude: {protocol: icmp}"))))
	golden(t, "to", w.plain(describe(w.plan(backendQueue, "delay: 1s, to: {type: peer}"))))
	w.join("eth1", 8, "peer1")
	w.target.raise("eth1", 2)
	for _, backend := range []string{"", backendNetem, backendQueue} {
		golden(t, "two-links-"+backend, w.plain(describe(w.plan(backend, "loss: 1, direction: both"))))
	}
	w.target.do(func() error { return deleteLink("eth1") })
	w.same(before)
}

// TestNotes tells what a user should know, by each backend: here that one link
// stands on another, so that packets are struck twice.
func TestNotes(t *testing.T) {
	w := newWire(t, "IPv4")
	w.target.do(func() error {
		below, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = "mac0", below.Attrs().Index
		return netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE})
	})
	w.target.raise("mac0", 8)
	for _, backend := range []string{"", backendNetem, backendQueue} {
		for _, direction := range []string{"egress", "ingress", "both"} {
			text := describe(w.plan(backend, "loss: 1, direction: "+direction))
			if want := "note    mac0 stands on eth0: its packets pass both"; !strings.Contains(text, want) {
				t.Errorf("%s %s: no note\n%s", backend, direction, text)
			}
		}
	}
}

// plan plans by a backend, also by a netem that is not there.
func (w *wire) plan(backend, fields string) []experiment.Step {
	w.t.Helper()
	f := w.fault(forced(backend, fields))
	plan := f.Plan
	if backend == backendNetem {
		plan = f.planNetem
	}
	steps, err := plan(w.t.Context(), run, w.target.Target)
	must(w.t, err)
	return steps
}

func describe(steps []experiment.Step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "do      %s\nundo    %s\nbackend %s\nhandles %s\n", s.Do, s.Undo,
			s.Do.(experiment.Backed).Backend(), strings.Join(s.Do.(experiment.Handled).Handles(), " "))
		if n, ok := s.Do.(experiment.Noted); ok {
			for _, note := range n.Notes() {
				fmt.Fprintf(&b, "note    %s\n", note)
			}
		}
	}
	return b.String()
}

// plain has made-up numbers for those that are others each time.
func (w *wire) plain(text string) string {
	ns, err := proc.Host().NetworkOf(w.target.Target)
	must(w.t, err)
	return strings.NewReplacer(ns.Handle(), "net:4026533210:7", fmt.Sprint(ns.Inode), "4026533210").Replace(text)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", strings.TrimSuffix(name, "-")+".golden")
	if *update {
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
