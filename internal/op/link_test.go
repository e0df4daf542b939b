package op

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
)

func TestLinkConformance(t *testing.T) {
	t.Parallel()
	var w *pairNet
	current := &Host{FS: host}
	experimenttest.Op(t, experimenttest.OpCase{
		Ops: experiment.Catalog[experiment.Op]{"link": func() experiment.Op { return &Link{host: current} }},
		Step: func(t testing.TB) experiment.Step {
			needIfb(t)
			w = newPairNet(t)
			step, err := PlanLink(current, w.net, "abcd23", 0)
			must(t, err)
			return step
		},
		Snapshot: func() string { return w.state(t) },
		Gone:     func(testing.TB) { w.gone() },
	})
}

func needIfb(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a network namespace can be made by root only")
	}
	if err := CanIfb(NewHost(host)); err != nil {
		t.Skip(err)
	}
}

// TestLinkForeign has somebody take the name, the index, and the link itself.
func TestLinkForeign(t *testing.T) {
	t.Parallel()
	needIfb(t)
	w := newPairNet(t)
	step, err := PlanLink(w.host, w.net, "abcd23", 0)
	must(t, err)
	planned := step.Do.(*Link)
	if planned.Name != "smabcd230" || len(planned.Name) > 15 {
		t.Error(planned.Name)
	}
	foreign := func(name string, index int, alias string) {
		w.in(t, func(h *netlink.Handle) error {
			attrs := netlink.NewLinkAttrs()
			attrs.Name, attrs.Index = name, index
			if err := h.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}); err != nil {
				return err
			}
			l, err := h.LinkByName(name)
			return errors.Join(err, h.LinkSetAlias(l, alias))
		})
	}
	remove := func(name string) {
		w.in(t, func(h *netlink.Handle) error {
			l, err := h.LinkByName(name)
			return errors.Join(err, h.LinkDel(l))
		})
	}
	for what, l := range map[string]struct {
		name  string
		index int
	}{"name": {planned.Name, 77}, "index": {"mine", planned.Index}, "both": {planned.Name, planned.Index}} {
		foreign(l.name, l.index, "somebody's")
		before := w.state(t)
		if err := step.Do.Apply(t.Context()); !errors.Is(err, experiment.ErrBusy) {
			t.Errorf("%s taken: %v, want ErrBusy", what, err)
		}
		must(t, step.Undo.Apply(t.Context()))
		if diff := cmp.Diff(before, w.state(t)); diff != "" {
			t.Errorf("%s taken: %s", what, diff)
		}
		if next, err := PlanLink(w.host, w.net, "abcd23", 0); err != nil || next.Do.(*Link).Link == planned.Link {
			t.Errorf("%s taken: planned %v, %v", what, next.Do, err)
		}
		remove(l.name)
	}
}

// TestLinkReady looks at the link that was made.
func TestLinkReady(t *testing.T) {
	t.Parallel()
	needIfb(t)
	w := newPairNet(t)
	step, err := PlanLink(w.host, w.net, "abcd23", 3)
	must(t, err)
	must(t, step.Do.Apply(t.Context()))
	w.in(t, func(h *netlink.Handle) error {
		l, err := h.LinkByName("smabcd233")
		if err != nil {
			return err
		}
		a := l.Attrs()
		if a.TxQLen != ifbQueueLen || a.Alias != "simian run abcd23" || a.Index != step.Do.(*Link).Index {
			t.Errorf("%+v", a)
		}
		list, err := h.AddrList(l, netlink.FAMILY_ALL)
		if len(list) > 0 {
			t.Error("it has addresses:", list)
		}
		return err
	})
	ev, err := step.Do.(experiment.Verifier).Verify(context.Background())
	if err != nil || !ev.InForce {
		t.Errorf("%+v, %v", ev, err)
	}
}
