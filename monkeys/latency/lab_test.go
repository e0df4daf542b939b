package latency

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
	_ "github.com/simianhq/simian/internal/stage" // this binary is the queue's helper, too
)

const run experiment.RunID = "abcd23"

// The addresses of a wire: the target's and the peer's, each in both families.
var (
	targetIP = map[string]netip.Addr{"IPv4": netip.MustParseAddr("10.81.0.2"), "IPv6": netip.MustParseAddr("fd81::2")}
	peerIP   = map[string]netip.Addr{"IPv4": netip.MustParseAddr("10.81.0.1"), "IPv6": netip.MustParseAddr("fd81::1")}
	otherIP  = map[string]netip.Addr{"IPv4": netip.MustParseAddr("10.81.0.3"), "IPv6": netip.MustParseAddr("fd81::3")}
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: it does not come", what)
		}
	}
}

// wire is a target, and a peer that answers.
//
//	target eth0 10.81.0.2 fd81::2 ──── peer0 10.81.0.1 .3 fd81::1 ::3 peer
type wire struct {
	t            testing.TB
	target, peer *space
	host         *op.Host
	peers        []experiment.Target // what the selector peer finds
}

func newWire(t testing.TB, families ...string) *wire {
	t.Helper()
	return newWireFor(t, op.NewHost(proc.Host()), families...)
}

// newWireFor is newWire for faults of a host that there is already.
func newWireFor(t testing.TB, host *op.Host, families ...string) *wire {
	t.Helper()
	if len(families) == 0 {
		families = []string{"IPv4", "IPv6"}
	}
	w := &wire{t: t, target: newSpace(t, "web"), peer: newSpace(t, "db"), host: host}
	w.peers = []experiment.Target{w.peer.Target}
	w.join("eth0", 7, "peer0")
	var near, far, own []netip.Addr
	for _, f := range families {
		near, far, own = append(near, targetIP[f]), append(far, peerIP[f], otherIP[f]), append(own, peerIP[f])
	}
	w.target.raise("eth0", 2, near...)
	w.peer.raise("peer0", 1, far...)
	w.target.knows("eth0", 1, far...)
	w.peer.knows("peer0", 2, near...)
	w.peer.answer()
	for _, a := range own {
		w.ready(a)
	}
	return w
}

// join connects the target, by a link with this index, to the peer.
func (w *wire) join(name string, index int, peer string) {
	w.t.Helper()
	w.target.do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Index = name, index
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer, PeerNamespace: netlink.NsPid(w.peer.cmd.Process.Pid)})
	})
}

// ready waits until an address answers: a link takes up to a second after it is
// set up.
func (w *wire) ready(at netip.Addr) {
	w.t.Helper()
	await(w.t, "the wire", func() bool { return w.answers(probe{to: at, port: 7001}, 20*time.Millisecond) })
}

// snapshot is all that a fault may change: the target's network, and helpers
// with their cgroups.
func (w *wire) snapshot(t experiment.Target) string {
	seen, err := proc.System{FS: proc.Host()}.Observe(context.Background(), t)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for _, o := range seen {
		if strings.HasPrefix(o.Object, "net:") {
			lines = append(lines, o.Lines...)
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		dirs, _ := filepath.Glob(fmt.Sprintf("%ssimian-%s-%d-*", pattern, run, t.Net.Inode))
		for _, dir := range dirs {
			pids, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			lines = append(lines, fmt.Sprintf("%s with %d processes", dir, strings.Count(string(pids), "\n")))
		}
	}
	return strings.Join(lines, "\n")
}

// same wants the target to be as before, soon.
func (w *wire) same(before string) {
	w.t.Helper()
	var diff string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if diff = cmp.Diff(before, w.snapshot(w.target.Target)); diff == "" {
			return
		}
	}
	w.t.Errorf("the target's network is not as it was (-before +after)\n%s", diff)
}

// chosen is a selector that finds what a test has made.
type chosen struct {
	Name string `json:"name,omitempty"`

	list *[]experiment.Target
}

// Select implements experiment.Selector.
func (c *chosen) Select(context.Context) ([]experiment.Target, error) { return *c.list, nil }

// loader reads files with the faults of a host.
func loader(host *op.Host, peers *[]experiment.Target) experiment.Loader {
	return experiment.Loader{
		Faults:  experiment.Catalog[experiment.Fault]{"latency": func() experiment.Fault { return newFault(host) }},
		Targets: experiment.Catalog[experiment.Selector]{"peer": func() experiment.Selector { return &chosen{list: peers} }},
	}
}

// document is a file with one fault.
func document(fields string) []byte {
	return fmt.Appendf(nil, `apiVersion: %s
kind: %s
metadata: {name: test}
spec:
  method:
    - {fault: {type: latency, %s}, target: {type: peer}, for: 10s}
`, experiment.APIVersion, experiment.Kind, fields)
}

// fault reads a fault's fields as a file has them.
func (w *wire) fault(fields string) *Fault {
	w.t.Helper()
	return readFault(w.t, loader(w.host, &w.peers), fields)
}

func readFault(t testing.TB, l experiment.Loader, fields string) *Fault {
	t.Helper()
	e, err := l.Load("test.yaml", document(fields), nil)
	must(t, err)
	return e.Spec.Method[0].Fault.(*Fault)
}

// need skips a test where this kernel has not what a backend needs, for the
// kernel's own reason.
func need(t testing.TB, backend string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces can be made by root only")
	}
	can := map[string][]func(*op.Host) error{
		backendNetem: {op.CanNetem, op.CanPrio, op.CanIfb, op.CanTbf}, backendQueue: {op.CanQueue},
	}
	for _, check := range can[backend] {
		if err := check(op.NewHost(proc.Host())); err != nil {
			t.Skip(err)
		}
	}
}

// through are the backends that a long test goes through. In short mode the
// queue is left out where there is netem: its tests are the same, and a machine
// without netem runs them.
func through(backends ...string) []string {
	if testing.Short() && op.CanNetem(op.NewHost(proc.Host())) == nil {
		backends = slices.DeleteFunc(backends, func(b string) bool { return b == backendQueue })
	}
	return backends
}

// directions are those that a long test goes through; of short ones both would
// show nothing that each of them does not.
func directions() []filter.Direction {
	if testing.Short() {
		return []filter.Direction{filter.Egress, filter.Ingress}
	}
	return []filter.Direction{filter.Egress, filter.Ingress, filter.Both}
}

// strike plans and applies, until the test ends or heal is called.
func (w *wire) strike(fields string) []experiment.Step {
	w.t.Helper()
	steps, err := w.fault(fields).Plan(w.t.Context(), run, w.target.Target)
	must(w.t, err)
	w.apply(steps)
	return steps
}

func (w *wire) apply(steps []experiment.Step) {
	w.t.Helper()
	w.t.Cleanup(func() { takeBack(w.t, steps) })
	for _, s := range steps {
		must(w.t, s.Do.Apply(w.t.Context()))
		w.inForce(s.Do)
	}
}

func (w *wire) inForce(o experiment.Op) experiment.Evidence {
	w.t.Helper()
	e, err := o.(experiment.Verifier).Verify(w.t.Context())
	if err != nil || !e.InForce {
		w.t.Errorf("%s: %+v, %v", o, e, err)
	}
	return e
}

// heal takes steps back, twice, and wants the target to be as before.
func (w *wire) heal(steps []experiment.Step, before string) {
	w.t.Helper()
	takeBack(w.t, steps)
	for _, s := range steps {
		if e, err := s.Undo.(experiment.Verifier).Verify(w.t.Context()); !errors.Is(err, experiment.ErrGone) && (err != nil || !e.InForce) {
			w.t.Errorf("%s: %+v, %v", s.Undo, e, err)
		}
	}
	takeBack(w.t, steps)
	w.same(before)
}

func takeBack(t testing.TB, steps []experiment.Step) {
	t.Helper()
	for _, s := range slices.Backward(steps) {
		if err := s.Undo.Apply(context.Background()); err != nil && !errors.Is(err, experiment.ErrGone) {
			t.Errorf("%s: %v", s.Undo, err)
		}
	}
}

func deleteLink(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkDel(l)
}

// planNetem is Plan by netem, whether this kernel has it or not.
func (f *Fault) planNetem(ctx context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	p, err := f.planner(ctx, run, t)
	if err != nil {
		return nil, err
	}
	return p.byNetem()
}
