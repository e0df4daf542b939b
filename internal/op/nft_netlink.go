package op

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rules are written as the attributes that the kernel takes (netlink(7),
// include/uapi/linux/netfilter/nf_tables.h): a table's owner, and the answer
// to each message of a batch, are not to be had through the libraries.

// What came to nf_tables.h after golang.org/x/sys/unix was made.
const (
	nftTableOwner = 0x2 // NFT_TABLE_F_OWNER, Linux 5.12
	nftaOwner     = 7   // NFTA_TABLE_OWNER
	nftaHookDevs  = 4   // NFTA_HOOK_DEVS
	nlaTypeMask   = 0x3fff
)

// attrs are netlink attributes, one after the other.
type attrs []byte

// put adds an attribute.
func (a *attrs) put(kind uint16, data ...byte) {
	*a = binary.NativeEndian.AppendUint16(*a, uint16(unix.SizeofNlAttr+len(data)))
	*a = binary.NativeEndian.AppendUint16(*a, kind)
	*a = append(*a, data...)
	a.pad()
}

// pad fills up to where the next attribute may begin.
func (a *attrs) pad() {
	for len(*a)%unix.NLA_ALIGNTO != 0 {
		*a = append(*a, 0)
	}
}

// text adds a string with the zero at its end.
func (a *attrs) text(kind uint16, s string) { a.put(kind, append([]byte(s), 0)...) }

// u32 adds a number in network order.
func (a *attrs) u32(kind uint16, n uint32) { a.put(kind, binary.BigEndian.AppendUint32(nil, n)...) }

// nest adds an attribute that is made of attributes, 64 KiB of them at most.
func (a *attrs) nest(kind uint16, fill func(*attrs)) {
	start := len(*a)
	a.put(kind | unix.NLA_F_NESTED)
	fill(a)
	binary.NativeEndian.PutUint16((*a)[start:], uint16(len(*a)-start))
}

// parsed are the attributes of a message by type; of several of one type the
// last.
type parsed map[uint16][]byte

// parseAttrs reads attributes; a malformed rest is left out.
func parseAttrs(data []byte) parsed {
	p := parsed{}
	for kind, value := range eachAttr(data) {
		p[kind] = value
	}
	return p
}

// eachAttr gives attributes in order.
func eachAttr(data []byte) func(func(uint16, []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(data) >= unix.SizeofNlAttr {
			size := int(binary.NativeEndian.Uint16(data))
			kind := binary.NativeEndian.Uint16(data[2:]) & nlaTypeMask
			if size < unix.SizeofNlAttr || size > len(data) || !yield(kind, data[unix.SizeofNlAttr:size]) {
				return
			}
			data = data[min((size+3)&^3, len(data)):]
		}
	}
}

func (p parsed) text(kind uint16) string { return unix.ByteSliceToString(p[kind]) }

// number returns one of 4 or 8 bytes in network order, 0 where it is not there.
func (p parsed) number(kind uint16) uint64 {
	switch v := p[kind]; len(v) {
	case 4:
		return uint64(binary.BigEndian.Uint32(v))
	case 8:
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// nftMessage is one message of a batch.
type nftMessage struct {
	kind   uint16 // NFT_MSG_*
	flags  uint16 // NLM_F_* besides NLM_F_REQUEST
	family uint8
	body   attrs
	text   string // the same for a reader, close to nft(8)'s language
}

// nftBatch returns the bytes of a transaction: all of it comes into force at
// once, or nothing. Messages are numbered from 1, the batch's begin is 0; the
// last one is answered.
func nftBatch(messages []nftMessage) []byte {
	size := 64
	for _, m := range messages {
		size += len(m.body) + 20
	}
	b := make([]byte, 0, size)
	b = appendMessage(b, unix.NFNL_MSG_BATCH_BEGIN, 0, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	for i, m := range messages {
		flags := m.flags
		if i == len(messages)-1 {
			flags |= unix.NLM_F_ACK
		}
		b = appendMessage(b, unix.NFNL_SUBSYS_NFTABLES<<8|m.kind, flags, uint32(i+1), m.family, 0, m.body)
	}
	return appendMessage(b, unix.NFNL_MSG_BATCH_END, 0, uint32(len(messages)+1), unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
}

// appendMessage adds a netlink header, struct nfgenmsg and attributes.
func appendMessage(b []byte, kind, flags uint16, seq uint32, family uint8, resource uint16, body attrs) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.SizeofNlMsghdr+4+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // to the kernel
	b = append(b, family, unix.NFNETLINK_V0)
	b = binary.BigEndian.AppendUint16(b, resource)
	return append(b, body...)
}

// nftError is what the kernel says of one message of a batch.
type nftError struct {
	Message int // from 1; 0 is the transaction as a whole
	Errno   syscall.Errno
}

// Error implements error.
func (e *nftError) Error() string { return fmt.Sprintf("message %d: %s", e.Message, e.Errno) }

// Unwrap gives the errno.
func (e *nftError) Unwrap() error { return e.Errno }

// sendNft sends a batch and returns the first error of those that the kernel
// answers with, as *nftError. It needs nothing but the standard library, so
// that a helper can do the same: netlink is synchronous, all answers lie in
// the socket when send(2) returns.
func sendNft(fd int, batch []byte) error {
	for _, opt := range []int{syscall.SO_SNDBUF, syscall.SO_SNDBUFFORCE} { // a batch must fit as a whole
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, opt, 2*len(batch)+1<<16)
	}
	_ = syscall.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1) // answers without the question
	if err := syscall.Sendto(fd, batch, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return fmt.Errorf("send nft rules: %w", err)
	}
	answers, first := 0, error(nil)
	buf := make([]byte, 1<<16)
	for {
		n, _, err := syscall.Recvfrom(fd, buf, syscall.MSG_DONTWAIT)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN && answers > 0:
			return first
		case err != nil:
			return fmt.Errorf("read the answer to nft rules: %w", err)
		}
		answers++
		if bad := nftAnswer(buf[:n]); bad != nil && first == nil {
			first = bad
		}
	}
}

// nftAnswer returns the first error in a datagram of answers, nil where all
// is well.
func nftAnswer(data []byte) error {
	for len(data) >= syscall.SizeofNlMsghdr+4 {
		size := int(binary.NativeEndian.Uint32(data))
		kind, seq := binary.NativeEndian.Uint16(data[4:]), binary.NativeEndian.Uint32(data[8:])
		code := -int32(binary.NativeEndian.Uint32(data[syscall.SizeofNlMsghdr:]))
		if kind == syscall.NLMSG_ERROR && code != 0 {
			return &nftError{int(seq), syscall.Errno(code)}
		}
		if size < syscall.SizeofNlMsghdr || size > len(data) {
			break
		}
		data = data[min((size+3)&^3, len(data)):]
	}
	return nil
}

// openNft opens a socket for rules in this thread's network namespace. What is
// made with an owner through it stays until it is closed.
func openNft() (int, error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_NETFILTER)
	if err != nil {
		return -1, fmt.Errorf("open a socket for nft: %w", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		_ = syscall.Close(fd)
		return -1, fmt.Errorf("bind a socket for nft: %w", err)
	}
	return fd, nil
}

// nftObject is one thing the kernel lists.
type nftObject struct {
	family uint8
	parsed
}

// dumpNft asks for all objects of a kind (NFT_MSG_GET*) that the attributes
// name.
func dumpNft(fd int, kind uint16, family uint8, body attrs) ([]nftObject, error) {
	ask := appendMessage(nil, unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NLM_F_DUMP, 1, family, 0, body)
	if err := syscall.Sendto(fd, ask, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("ask for nft objects: %w", err)
	}
	var objects []nftObject
	buf := make([]byte, 1<<17)
	for {
		n, _, err := syscall.Recvfrom(fd, buf, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read nft objects: %w", err)
		}
		messages, err := syscall.ParseNetlinkMessage(append([]byte(nil), buf[:n]...))
		if err != nil {
			return nil, fmt.Errorf("read nft objects: %w", err)
		}
		for _, m := range messages {
			switch {
			case m.Header.Type == syscall.NLMSG_DONE:
				return objects, nil
			case m.Header.Type == syscall.NLMSG_ERROR && len(m.Data) >= 4:
				return nil, syscall.Errno(-*(*int32)(unsafe.Pointer(&m.Data[0])))
			case len(m.Data) >= 4:
				objects = append(objects, nftObject{m.Data[0], parseAttrs(m.Data[4:])})
			}
		}
	}
}
