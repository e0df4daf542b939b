package op

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
)

// What a Table does with packets that match.
const (
	ActDrop   = "drop"   // lost, and nobody is told
	ActReject = "reject" // lost, and the sender is told (ICMP administratively prohibited)
	ActReset  = "reset"  // TCP is reset, all else rejected
	ActPrio   = "prio"   // classified: skb->priority is set (tc-prio(8))
	ActFwd    = "fwd"    // given to another link
)

// TableAct is what a Table does with packets that match. A packet that the
// kernel has not cut to the wire's size yet (GSO, GRO) is one packet here.
type TableAct struct {
	Kind     string    `json:"kind"`
	Percent  float64   `json:"percent,omitzero"`   // drop: of packets that match, each by itself; 0 is all
	Class    uint32    `json:"class,omitzero"`     // prio: major number << 16 | minor
	Forwards []Forward `json:"forwards,omitempty"` // fwd: for each link
	Mark     uint32    `json:"mark,omitzero"`      // packets with it are accepted first of all, and lose it
}

// Forward says where packets of a link go. A device with index 0 is looked up
// by its name when the table is made.
type Forward struct {
	Link    int         `json:"link"` // its index
	Egress  filter.Link `json:"egress,omitzero"`
	Ingress filter.Link `json:"ingress,omitzero"`
}

// tells tells whether the sender of a packet is told.
func (a TableAct) tells() bool { return a.Kind == ActReject || a.Kind == ActReset }

// String tells what is done to packets.
func (a TableAct) String() string {
	switch a.Kind {
	case ActDrop:
		if a.Percent > 0 && a.Percent < 100 {
			return "drop " + strconv.FormatFloat(a.Percent, 'g', -1, 64) + "% of"
		}
	case ActPrio:
		return fmt.Sprintf("give class %x:%x to", a.Class>>16, a.Class&0xffff)
	case ActFwd:
		var to []string
		for _, f := range a.Forwards {
			for _, l := range []filter.Link{f.Egress, f.Ingress} {
				if l.Name != "" && !slices.Contains(to, l.Name) {
					to = append(to, l.Name)
				}
			}
		}
		return "forward to " + strings.Join(to, ",") + ":"
	}
	return a.Kind
}

// device is where packets of a link go.
func (a TableAct) device(link int, egress bool) filter.Link {
	for _, f := range a.Forwards {
		if f.Link == link && egress {
			return f.Egress
		}
		if f.Link == link {
			return f.Ingress
		}
	}
	return filter.Link{}
}

// Table is an nft table of this run's own in a network namespace (nft(8)). It
// belongs to the socket it was made through: when that is closed, or its
// process killed, the kernel takes the table back.
//
// The namespace lives as long as the socket does, even without a process.
type Table struct {
	Net      experiment.Namespace `json:"net"`
	Name     string               `json:"name"` // see FreeTableName
	Match    filter.Match         `json:"match"`
	Act      TableAct             `json:"act"`
	Plain    bool                 `json:"plain,omitzero"`    // no owner: Linux before 5.12; it outlives its process
	NoEgress bool                 `json:"noEgress,omitzero"` // no egress hook: Linux before 5.16; see CheckNft

	host *Host
}

// NewTable returns the op that makes a table in a namespace.
func NewTable(h *Host, ns experiment.Namespace, name string, m filter.Match, act TableAct) *Table {
	return &Table{Net: ns, Name: name, Match: m, Act: act, host: h}
}

// String implements experiment.Op.
func (t *Table) String() string {
	s := t.Act.String() + " " + t.Match.String() + " (nft table " + t.Name + ")"
	if t.NoEgress && t.Match.Egress {
		s += ", and the sender may be told: this kernel has no egress hook"
	}
	return s
}

// Handles implements experiment.Handled.
func (t *Table) Handles() []string { return []string{tableHandle(t.Net, t.Name)} }

func tableHandle(ns experiment.Namespace, name string) string { return ns.Handle() + ":nft:" + name }

// Backend implements experiment.Backed.
func (t *Table) Backend() string { return "nftables" }

// Gone returns the undo of t.
func (t *Table) Gone() *NftGone {
	g := &NftGone{Net: t.Net, Name: t.Name, host: t.host}
	for _, f := range t.families() {
		g.Families = append(g.Families, familyName(f))
	}
	return g
}

// families are those that a table of this name is in.
func (t *Table) families() []uint8 {
	var f []uint8
	for _, w := range t.ways() {
		if !slices.Contains(f, w.family) {
			f = append(f, w.family)
		}
	}
	return f
}

// Apply implements experiment.Op.
func (t *Table) Apply(context.Context) error {
	return t.host.FS.InNetwork(t.Net, func() error {
		if t.held() != nil {
			return nil
		}
		if err := sameLinks(t.Match.Links); err != nil {
			return err
		}
		found, err := t.resolved()
		if err != nil {
			return err
		}
		messages, err := found.compile()
		if err != nil {
			return err
		}
		return t.make(messages)
	})
}

// held returns the table as this process holds it, nil where it does not.
func (t *Table) held() *heldTable {
	h, _ := t.host.holds(t.Handles()[0]).(*heldTable)
	return h
}

// make sends the rules, and keeps the socket.
func (t *Table) make(messages []nftMessage) error {
	fd, err := openNft()
	if err != nil {
		return err
	}
	err = explain(sendNft(fd, nftBatch(messages)), messages)
	switch {
	case err == nil && !t.Plain:
		t.host.hold(t.Handles()[0], &heldTable{fd: fd})
		return nil
	case errors.Is(err, syscall.EEXIST), errors.Is(err, syscall.EPERM): // EPERM is of another's
		err = t.present(fd, err)
	}
	_ = syscall.Close(fd)
	return err
}

// present says what is wrong with a table of this name that is there already.
// One without an owner was made by this op before: all of it, or it was not.
func (t *Table) present(fd int, refused error) error {
	found, err := findTables(fd, t.Name)
	if err != nil {
		return errors.Join(refused, err)
	}
	for _, f := range found {
		if f.owner != 0 || !t.Plain {
			return fmt.Errorf("make nft table %s: %s: %w", t.Name, f, experiment.ErrBusy)
		}
		refused = nil
	}
	return refused
}

// explain names the message that the kernel did not take.
func explain(err error, messages []nftMessage) error {
	bad, ok := errors.AsType[*nftError](err)
	if !ok || bad.Message < 1 || bad.Message > len(messages) {
		return err
	}
	m := messages[bad.Message-1]
	return fmt.Errorf("the kernel refuses nft %s %q: %w", familyName(m.family), m.text, bad.Errno)
}

// resolved returns t with the indexes of all devices.
func (t *Table) resolved() (*Table, error) {
	r := *t
	r.Act.Forwards = slices.Clone(t.Act.Forwards)
	for i := range r.Act.Forwards {
		f := &r.Act.Forwards[i]
		for _, l := range []*filter.Link{&f.Egress, &f.Ingress} {
			if l.Name == "" || l.Index != 0 {
				continue
			}
			index, err := linkIndex(l.Name)
			if err != nil {
				return nil, fmt.Errorf("find link %s: %w", l.Name, err)
			}
			l.Index = index
		}
	}
	return &r, nil
}

// sameLinks gives experiment.ErrGone where a link is another one by now.
func sameLinks(links []filter.Link) error {
	for _, l := range links {
		index, err := linkIndex(l.Name)
		if err != nil && !errors.Is(err, unix.ENODEV) {
			return err
		}
		if index != l.Index {
			return fmt.Errorf("link %s (%d) is gone, or has another name: %w", l.Name, l.Index, experiment.ErrGone)
		}
	}
	return nil
}

// linkIndex returns the index of a link of this thread's network namespace,
// ENODEV where there is none (netdevice(7)).
func linkIndex(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(fd)
	ask, err := unix.NewIfreq(name)
	if err != nil {
		return 0, fmt.Errorf("%q is no name of a link: %w", name, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ask); err != nil {
		return 0, fmt.Errorf("ask for link %s: %w", name, err)
	}
	return int(ask.Uint32()), nil
}

// heldTable is a table whose owner is a socket of this process.
type heldTable struct {
	mu      sync.Mutex // one request at a time
	fd      int
	changes int    // how often names changed what is in it
	trouble string // why they could not be followed the last time
}

// send sends a batch as the table's owner.
func (h *heldTable) send(messages []nftMessage) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fd < 0 {
		return os.ErrClosed
	}
	return explain(sendNft(h.fd, nftBatch(messages)), messages)
}

// Close implements io.Closer: the kernel removes the table.
func (h *heldTable) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fd < 0 {
		return nil
	}
	fd := h.fd
	h.fd = -1 // it is another's number from now on
	return syscall.Close(fd)
}
