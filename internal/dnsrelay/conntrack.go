package dnsrelay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"
)

// Numbers of linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h.
const (
	subsystem = 1 // NFNL_SUBSYS_CTNETLINK
	ctGet     = 1 // IPCTNL_MSG_CT_GET
	ctDelete  = 2 // IPCTNL_MSG_CT_DELETE
	ctStats   = 5 // IPCTNL_MSG_CT_GET_STATS

	statsEntries = 1 // CTA_STATS_GLOBAL_ENTRIES

	tupleOrig  = 1  // CTA_TUPLE_ORIG
	tupleReply = 2  // CTA_TUPLE_REPLY
	entryID    = 12 // CTA_ID

	tupleIP    = 1 // CTA_TUPLE_IP
	tupleProto = 2 // CTA_TUPLE_PROTO

	ip4From, ip4To, ip6From, ip6To = 1, 2, 3, 4 // CTA_IP_V4_SRC …

	protoNum, protoFrom, protoTo = 1, 2, 3 // CTA_PROTO_NUM …

	nested   = 1 << 15 // NLA_F_NESTED
	typeMask = 1<<14 - 1
)

// Conntrack asks the kernel's table of connections of one network namespace
// (ctnetlink): that in which its socket was made.
type Conntrack struct {
	mu  sync.Mutex
	fd  int
	seq uint32
	buf []byte

	entries uint32 // what it said last of how many there are
}

// NewConntrack talks on a socket of NETLINK_NETFILTER.
func NewConntrack(fd int) *Conntrack { return &Conntrack{fd: fd, buf: make([]byte, 1<<16)} }

// Tuple is one direction of a connection.
type Tuple struct {
	Protocol uint8 // TCP or UDP
	From, To netip.AddrPort
}

// Entry is a connection: what was sent first, and what answers are expected.
type Entry struct {
	Orig, Reply Tuple
	id          []byte // tells it from another of the same tuple
}

// Original returns where a packet was to go that came from remote to local,
// before it was redirected.
func (c *Conntrack) Original(network string, local, remote netip.AddrPort) (netip.AddrPort, error) {
	t := Tuple{syscall.IPPROTO_UDP, plain(local), plain(remote)}
	if network == "tcp" {
		t.Protocol = syscall.IPPROTO_TCP
	}
	body := attribute(nil, tupleReply|nested, t.encode())
	entries, err := c.ask(ctGet, 0, t.family(), body)
	if err == nil && len(entries) == 0 {
		err = syscall.ENOENT
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("ask conntrack for %s from %s: %w", network, remote, err)
	}
	return entries[0].Orig.To, nil
}

func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// Forget removes the connections that chosen says: the next packet of each is
// the first of a new one. The kernel looks through the table of all namespaces
// for it, which takes 10 ms on a large machine: see Count.
func (c *Conntrack) Forget(chosen func(Entry) bool) error {
	entries, err := c.ask(ctGet, syscall.NLM_F_DUMP, syscall.AF_UNSPEC, nil)
	if err != nil {
		return fmt.Errorf("list connections: %w", err)
	}
	for _, e := range entries {
		if !chosen(e) {
			continue
		}
		body := attribute(nil, tupleOrig|nested, e.Orig.encode())
		body = attribute(body, entryID, e.id)
		_, err := c.ask(ctDelete, syscall.NLM_F_ACK, e.Orig.family(), body)
		if err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("forget a connection: %w", err)
		}
	}
	return nil
}

// Count returns how many connections the namespace has.
func (c *Conntrack) Count() (n uint32, err error) {
	if _, err := c.ask(ctStats, 0, syscall.AF_UNSPEC, nil); err != nil {
		return 0, fmt.Errorf("count connections: %w", err)
	}
	return c.entries, nil
}

// Known tells whether the kernel follows a connection that was sent from one
// address to another.
func (c *Conntrack) Known(t Tuple) (bool, error) {
	entries, err := c.ask(ctGet, 0, t.family(), attribute(nil, tupleOrig|nested, t.encode()))
	if errors.Is(err, syscall.ENOENT) {
		return false, nil
	}
	return len(entries) > 0, err
}

// ask sends a request and reads what comes back, to its end.
func (c *Conntrack) ask(kind uint16, flags uint16, family uint8, body []byte) ([]Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	b := binary.NativeEndian.AppendUint32(nil, uint32(syscall.SizeofNlMsghdr+4+len(body)))
	b = binary.NativeEndian.AppendUint16(b, subsystem<<8|kind)
	b = binary.NativeEndian.AppendUint16(b, flags|syscall.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, c.seq)
	b = append(b, 0, 0, 0, 0, family, 0, 0, 0)
	if err := syscall.Sendto(c.fd, append(b, body...), 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return nil, err
	}
	var entries []Entry
	for {
		n, _, err := syscall.Recvfrom(c.fd, c.buf, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		done, err := c.read(c.buf[:n], flags, &entries)
		if done || err != nil {
			return entries, err
		}
	}
}

// read reads one datagram; done says that nothing else comes.
func (c *Conntrack) read(b []byte, flags uint16, entries *[]Entry) (done bool, err error) {
	for len(b) >= syscall.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < syscall.SizeofNlMsghdr || size > len(b) {
			return true, fmt.Errorf("an answer of %d bytes is cut", size)
		}
		kind, seq, body := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:]), b[syscall.SizeofNlMsghdr:size]
		b = b[min((size+3)&^3, len(b)):]
		switch {
		case seq != c.seq: // of a request that was given up
		case kind == syscall.NLMSG_DONE:
			return true, nil
		case kind == syscall.NLMSG_ERROR && len(body) >= 4:
			if code := -int32(binary.NativeEndian.Uint32(body)); code != 0 {
				return true, syscall.Errno(code)
			}
			return true, nil
		case kind == subsystem<<8|ctStats && len(body) >= 4:
			for kind, value := range attributes(body[4:]) {
				if kind == statsEntries && len(value) == 4 {
					c.entries = binary.BigEndian.Uint32(value)
				}
			}
			done = true
		case len(body) >= 4:
			if e, ok := parseEntry(body[4:]); ok {
				*entries = append(*entries, e)
			}
			done = flags&syscall.NLM_F_DUMP == 0
		}
	}
	return done, nil
}

func parseEntry(body []byte) (e Entry, ok bool) {
	var orig, reply bool
	for kind, value := range attributes(body) {
		switch kind {
		case tupleOrig:
			e.Orig, orig = parseTuple(value)
		case tupleReply:
			e.Reply, reply = parseTuple(value)
		case entryID:
			e.id = append([]byte(nil), value...)
		}
	}
	return e, orig && reply
}

func parseTuple(b []byte) (t Tuple, ok bool) {
	var from, to netip.Addr
	var ports [2]uint16
	for kind, value := range attributes(b) {
		for inner, v := range attributes(value) {
			switch {
			case kind == tupleIP && (inner == ip4From || inner == ip6From):
				from, _ = netip.AddrFromSlice(v)
			case kind == tupleIP:
				to, _ = netip.AddrFromSlice(v)
			case inner == protoNum && len(v) == 1:
				t.Protocol = v[0]
			case (inner == protoFrom || inner == protoTo) && len(v) == 2:
				ports[inner-protoFrom] = binary.BigEndian.Uint16(v)
			}
		}
	}
	t.From, t.To = netip.AddrPortFrom(from, ports[0]), netip.AddrPortFrom(to, ports[1])
	return t, from.IsValid() && to.IsValid()
}

func (t Tuple) family() uint8 {
	if t.To.Addr().Is4() {
		return syscall.AF_INET
	}
	return syscall.AF_INET6
}

func (t Tuple) encode() []byte {
	from, to := uint16(ip4From), uint16(ip4To)
	if t.family() == syscall.AF_INET6 {
		from, to = ip6From, ip6To
	}
	ip := attribute(attribute(nil, from, t.From.Addr().AsSlice()), to, t.To.Addr().AsSlice())
	proto := attribute(nil, protoNum, []byte{t.Protocol})
	proto = attribute(proto, protoFrom, binary.BigEndian.AppendUint16(nil, t.From.Port()))
	proto = attribute(proto, protoTo, binary.BigEndian.AppendUint16(nil, t.To.Port()))
	return attribute(attribute(nil, tupleIP|nested, ip), tupleProto|nested, proto)
}

// attribute adds a netlink attribute.
func attribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(syscall.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, (4-len(value)%4)%4)...)
}

// attributes gives each of a list; a malformed rest is left out.
func attributes(b []byte) func(func(uint16, []byte) bool) {
	const head = int(unsafe.Sizeof(syscall.RtAttr{}))
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= head {
			size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])&typeMask
			if size < head || size > len(b) || !yield(kind, b[head:size]) {
				return
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}
