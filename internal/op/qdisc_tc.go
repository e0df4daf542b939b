package op

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
)

// Attributes of a traffic control message (include/uapi/linux/rtnetlink.h).
const (
	tcaKind    = nl.TCA_KIND
	tcaOptions = nl.TCA_OPTIONS
)

// tcConn talks rtnetlink(7) with one network namespace.
type tcConn struct {
	sockets map[int]*nl.SocketHandle
}

// openTC opens a socket in the namespace of this thread. The kernel says in
// words what it refuses (NETLINK_EXT_ACK).
func openTC() (*tcConn, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	_ = s.SetExtAck(true) // since Linux 4.12; without it errors have no words
	if err := s.SetReceiveTimeout(&nl.SocketTimeoutTv); err != nil {
		s.Close()
		return nil, err
	}
	return &tcConn{sockets: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}, nil
}

func (c *tcConn) close() { c.sockets[unix.NETLINK_ROUTE].Close() }

// request sends one message, and returns what comes back of type reply.
func (c *tcConn) request(kind, flags, reply int, body []byte) ([][]byte, error) {
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = c.sockets
	req.AddRawData(body)
	return req.Execute(unix.NETLINK_ROUTE, uint16(reply))
}

// tcMessage is a struct tcmsg and its attributes.
type tcMessage struct {
	Index                int // of the link
	Handle, Parent, Info uint32
	Attrs                []tcAttr
}

// tcAttr is one attribute (struct nlattr), without its padding.
type tcAttr struct {
	Type uint16
	Data []byte
}

const (
	sizeofTcmsg = 20
	nlaType     = 0x3fff // without the bits for nesting and byte order
)

var native = binary.NativeEndian

// encode returns m as the kernel reads it.
func (m *tcMessage) encode() []byte {
	b := make([]byte, 4, 64) // family, padding
	b = native.AppendUint32(b, uint32(m.Index))
	b = native.AppendUint32(b, m.Handle)
	b = native.AppendUint32(b, m.Parent)
	b = native.AppendUint32(b, m.Info)
	return append(b, encodeAttrs(m.Attrs)...)
}

// decodeTC reads what the kernel has written.
func decodeTC(b []byte) (tcMessage, error) {
	if len(b) < sizeofTcmsg {
		return tcMessage{}, fmt.Errorf("read a message of traffic control: %d bytes", len(b))
	}
	m := tcMessage{
		Index: int(int32(native.Uint32(b[4:]))), Handle: native.Uint32(b[8:]),
		Parent: native.Uint32(b[12:]), Info: native.Uint32(b[16:]),
	}
	var err error
	m.Attrs, err = decodeAttrs(b[sizeofTcmsg:])
	return m, err
}

func encodeAttrs(list []tcAttr) []byte {
	var b []byte
	for _, a := range list {
		b = appendAttr(b, a.Type, a.Data)
	}
	return b
}

// appendAttr appends an attribute, padded to 4 bytes.
func appendAttr(b []byte, kind uint16, data []byte) []byte {
	b = native.AppendUint16(b, uint16(4+len(data)))
	b = native.AppendUint16(b, kind)
	b = append(b, data...)
	return append(b, make([]byte, -len(data)&3)...)
}

func appendUint32(b []byte, kind uint16, v uint32) []byte {
	return appendAttr(b, kind, native.AppendUint32(nil, v))
}

func decodeAttrs(b []byte) ([]tcAttr, error) {
	var list []tcAttr
	for len(b) >= 4 {
		n := int(native.Uint16(b))
		if n < 4 || n > len(b) {
			return nil, fmt.Errorf("read an attribute of %d bytes where %d are left", n, len(b))
		}
		list = append(list, tcAttr{native.Uint16(b[2:]) & nlaType, slices.Clone(b[4:n])})
		b = b[min((n+3)&^3, len(b)):]
	}
	return list, nil
}

// attrOf returns an attribute of a list, nil where there is none.
func attrOf(list []tcAttr, kind uint16) []byte {
	for _, a := range list {
		if a.Type == kind {
			return a.Data
		}
	}
	return nil
}

func (m *tcMessage) attr(kind uint16) []byte { return attrOf(m.Attrs, kind) }

func (m *tcMessage) kind() string {
	return strings.TrimRight(string(m.attr(tcaKind)), "\x00")
}

// String gives "htb 1:", or for a filter "u32 800::800".
func (m *tcMessage) String() string {
	if m.kind() == "u32" {
		return fmt.Sprintf("u32 %x:%s:%x", m.Handle>>20, hexOrNothing(m.Handle>>12&0xff), m.Handle&0xfff)
	}
	return m.kind() + " " + handleString(m.Handle)
}

func hexOrNothing(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%x", n)
}

// linkFacts is what is read of a link.
type linkFacts struct {
	mtu, txQueueLen int
	speed           float64 // bits per second, 0 where it has none
}

// link reads a link by its index, and gives ErrGone where that is another one.
func (c *tcConn) link(want filter.Link) (linkFacts, error) {
	l, err := c.attrsOf(want.Index)
	if err != nil {
		return linkFacts{}, fmt.Errorf("look at link %s: %w", want.Name, err)
	}
	if l.Name != want.Name {
		return linkFacts{}, fmt.Errorf("link %d is %s now, not %s: %w", want.Index, l.Name, want.Name, experiment.ErrGone)
	}
	return linkFacts{mtu: l.MTU, txQueueLen: l.TxQLen, speed: linkSpeed(l.Name)}, nil
}

// attrsOf reads the link of an index.
func (c *tcConn) attrsOf(index int) (*netlink.LinkAttrs, error) {
	l, err := c.linkAt(index)
	if err != nil {
		return nil, err
	}
	return l.Attrs(), nil
}

func (c *tcConn) linkAt(index int) (netlink.Link, error) {
	return c.findLink(ifinfo(index, 0))
}

func (c *tcConn) linkNamed(name string) (netlink.Link, error) {
	return c.findLink(appendAttr(ifinfo(0, 0), unix.IFLA_IFNAME, append([]byte(name), 0)))
}

// findLink gives ErrGone where there is none.
func (c *tcConn) findLink(body []byte) (netlink.Link, error) {
	found, err := c.request(unix.RTM_GETLINK, 0, 0, body)
	if errors.Is(err, unix.ENODEV) || err == nil && len(found) == 0 {
		err = experiment.ErrGone
	}
	if err != nil {
		return nil, err
	}
	return netlink.LinkDeserialize(nil, found[0])
}

// qdiscs lists those of a link that are not hidden; the kernel hides the ones
// that it put into classes itself.
func (c *tcConn) qdiscs(index int) ([]tcMessage, error) {
	return c.dump(unix.RTM_GETQDISC, unix.RTM_NEWQDISC, tcMessage{Index: index})
}

func (c *tcConn) classes(index int) ([]tcMessage, error) {
	return c.dump(unix.RTM_GETTCLASS, unix.RTM_NEWTCLASS, tcMessage{Index: index})
}

func (c *tcConn) filters(index int, parent uint32) ([]tcMessage, error) {
	return c.dump(unix.RTM_GETTFILTER, unix.RTM_NEWTFILTER, tcMessage{Index: index, Parent: parent})
}

// dump lists what a link has. The kernel gives qdiscs of all links.
func (c *tcConn) dump(kind, reply int, ask tcMessage) ([]tcMessage, error) {
	found, err := c.request(kind, unix.NLM_F_DUMP, reply, ask.encode())
	if errors.Is(err, nl.ErrDumpInterrupted) { // it changed meanwhile
		found, err = c.request(kind, unix.NLM_F_DUMP, reply, ask.encode())
	}
	if err != nil {
		return nil, fmt.Errorf("list traffic control of link %d: %w", ask.Index, err)
	}
	var list []tcMessage
	for _, b := range found {
		m, err := decodeTC(b)
		if err != nil {
			return nil, err
		}
		if m.Index == ask.Index {
			list = append(list, m)
		}
	}
	return list, nil
}

// root returns the root qdisc of a link. One that the kernel put there itself
// has handle 0; there is none where the link is down and never was up.
func (c *tcConn) root(index int) (tcMessage, error) {
	list, err := c.qdiscs(index)
	for _, m := range list {
		if m.Parent == handleRoot {
			return m, err
		}
	}
	return tcMessage{}, err
}

// add makes a qdisc.
func (c *tcConn) add(index int, l layer, flags int) error {
	m := tcMessage{Index: index, Parent: l.parent, Handle: l.handle, Attrs: []tcAttr{
		{tcaKind, append([]byte(l.kind), 0)}, {tcaOptions, l.options},
	}}
	_, err := c.request(unix.RTM_NEWQDISC, flags|unix.NLM_F_ACK, 0, m.encode())
	if errors.Is(err, unix.EEXIST) {
		err = errors.Join(experiment.ErrBusy, err)
	}
	return err
}

// removeRoot removes the root qdisc where it has this handle. None is fine.
func (c *tcConn) removeRoot(index int, handle uint32) error {
	m := tcMessage{Index: index, Parent: handleRoot, Handle: handle}
	_, err := c.request(unix.RTM_DELQDISC, unix.NLM_F_ACK, 0, m.encode())
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove qdisc %s: %w", handleString(handle), err)
	}
	return nil
}
