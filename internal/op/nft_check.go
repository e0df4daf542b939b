package op

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/proc"
)

// IngressSuffix is what the name of a table ends with that is for what comes
// in, where a fault has another table besides.
const IngressSuffix = "i"

// FreeTableName returns the first of simian_<run>_1, simian_<run>_2 … that no
// table in the namespace has, with or without IngressSuffix, nor one that this
// process made before: what takes that one back may be at it still.
func FreeTableName(h *Host, ns experiment.Namespace, run experiment.RunID) (name string, err error) {
	err = h.FS.InNetwork(ns, func() error {
		fd, err := openNft()
		if err != nil {
			return fmt.Errorf("%w: %w", err, experiment.ErrUnsupported)
		}
		defer syscall.Close(fd)
		there, err := findTables(fd, "")
		if err != nil {
			return err
		}
		taken := func(name string) bool {
			return h.used(tableHandle(ns, name)) || slices.ContainsFunc(there, func(t nftTable) bool { return t.name == name })
		}
		for n := 1; name == "" || taken(name) || taken(name+IngressSuffix); n++ {
			name = fmt.Sprintf("simian_%s_%d", run, n)
		}
		return nil
	})
	return name, err
}

// CheckNft tries t in an empty network namespace of its own, and writes into t
// what this kernel can't do but there is another way for: Plain, NoEgress. For
// the rest it gives experiment.ErrUnsupported with the kernel's own reason.
func CheckNft(t *Table) error {
	t.host.mu.Lock()
	defer t.host.mu.Unlock()
	key := t.shape()
	known, ok := t.host.nft[key]
	if !ok {
		known.err = checkNft(t)
		known.plain, known.noEgress = t.Plain, t.NoEgress
		if t.host.nft == nil {
			t.host.nft = map[string]nftAbility{}
		}
		t.host.nft[key] = known
	}
	t.Plain, t.NoEgress = known.plain, known.noEgress
	return known.err
}

// nftAbility is what a kernel makes of tables of one shape.
type nftAbility struct {
	plain, noEgress bool
	err             error
}

// shape is the same for tables that ask the same of a kernel.
func (t *Table) shape() string {
	m := &t.Match
	shape := fmt.Sprint(t.Act.Kind, t.Act.Percent > 0, t.Act.Mark > 0, t.Plain, t.NoEgress, m.Egress, m.Ingress, m.Percent > 0)
	for _, c := range []filter.Criteria{m.Criteria, m.Except} {
		shape += fmt.Sprint(len(c.Protocols) > 0, len(c.Ports) > 0, len(c.SourcePorts) > 0)
		for _, p := range c.Far[:min(len(c.Far), 1)] {
			shape += fmt.Sprint(p.Addr().Is4())
		}
		for _, p := range c.Far[max(0, len(c.Far)-1):] {
			shape += fmt.Sprint(p.Addr().Is4())
		}
	}
	return shape
}

func checkNft(t *Table) error {
	return scratch(func() error {
		for {
			refused, err := t.try()
			switch {
			case err == nil:
				return nil
			case refused == nil: // nothing that there is another way for
				return fmt.Errorf("%w: %w", err, experiment.ErrUnsupported)
			case refused.kind == unix.NFT_MSG_NEWTABLE && !t.Plain:
				t.Plain = true
			case refused.kind == unix.NFT_MSG_NEWCHAIN && t.Match.Egress && t.Act.Kind == ActDrop && !t.NoEgress:
				t.NoEgress = true
			default:
				return fmt.Errorf("%w: %w", err, experiment.ErrUnsupported)
			}
		}
	})
}

// try makes t with few elements, and lo as its link. It returns the message
// that the kernel refuses.
func (t *Table) try() (refused *nftMessage, err error) {
	lo, err := linkIndex("lo")
	if err != nil {
		return nil, err
	}
	small := *t
	small.Match.Links = []filter.Link{{Name: "lo", Index: lo}}
	small.Match.Far = few(t.Match.Far)
	small.Match.Except.Far = few(t.Match.Except.Far)
	if t.Act.Kind == ActFwd {
		device := filter.Link{Name: "lo", Index: lo}
		small.Act.Forwards = []Forward{{lo, device, device}}
	}
	messages, err := small.compile()
	if err != nil {
		return nil, err
	}
	fd, err := openNft()
	if err != nil {
		return nil, err
	}
	defer func() { go syscall.Close(fd) }() // the kernel takes 5 to 10 ms to remove a table
	err = sendNft(fd, nftBatch(messages))
	if bad, ok := errors.AsType[*nftError](err); ok && bad.Message > 0 {
		refused = &messages[bad.Message-1]
	}
	return refused, explain(err, messages)
}

func few(prefixes []netip.Prefix) []netip.Prefix { return prefixes[:min(len(prefixes), 4)] }

// scratch runs fn in a new network namespace that holds nothing but lo. Its
// thread goes home to its own afterwards.
func scratch(fn func() error) error {
	return proc.Do("/proc/thread-self/ns/net", func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		return fn()
	})
}
