package queue

import (
	"encoding/binary"
	"syscall"
	"unsafe"
)

// batch is packets that are about to be sent, and the messages that they are
// sent as: some packets may share one (see merge.go).
type batch struct {
	packets  [sendBatch]packet
	messages [sendBatch]mmsghdr
	ends     [sendBatch]int // by message: the first packet that is not in it
	vectors  [2 * sendBatch]syscall.Iovec
	names    [2]syscall.RawSockaddrLinklayer // for links without a header: IPv4, IPv6
}

func newBatch() *batch {
	b := &batch{}
	for i, kind := range []uint16{syscall.ETH_P_IP, syscall.ETH_P_IPV6} {
		b.names[i] = syscall.RawSockaddrLinklayer{Family: syscall.AF_PACKET}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&b.names[i].Protocol))[:], kind)
	}
	return b
}

// send sends what is due at now, and returns how many packets that were.
func (p *plane) send(l *lane, now int64) (total int) {
	for {
		n := p.fill(l, now)
		if n == 0 {
			return total
		}
		m := p.assemble(l, n)
		if l.Out < 0 {
			p.writeBack(l, m)
		} else {
			p.sendOn(l, m)
		}
		for i := range n {
			p.arena.give(l.out.packets[i].head)
			p.arena.give(l.out.packets[i].tail)
		}
		total += n
	}
}

// fill moves what is due from the hold into the batch.
func (p *plane) fill(l *lane, now int64) (n int) {
	b := l.out
	for n < sendBatch {
		k := l.hold.next()
		if k == nil || k.due > now {
			break
		}
		b.packets[n] = l.hold.take()
		l.note(&b.packets[n], now)
		n++
	}
	return n
}

// assemble makes messages of the first n packets, and returns how many.
func (p *plane) assemble(l *lane, n int) (m int) {
	b, used := l.out, 0
	for at := 0; at < n; m++ {
		h := &b.messages[m].Msghdr
		h.Iov = &b.vectors[used]
		vectors := p.whole(b, &b.packets[at], used)
		first := at
		at++
		if l.Merge {
			more := p.merge(b, first, n, used+1)
			at += more
			vectors += more
		}
		h.Iovlen = uint64(vectors)
		used += vectors
		b.ends[m] = at
	}
	return m
}

// whole points vectors at all bytes of a packet, and returns how many.
func (p *plane) whole(b *batch, k *packet, used int) int {
	rest := int(k.size) - small.bytes()
	if rest <= 0 {
		b.vectors[used] = iovec(p.arena.bytes(k.head)[:k.size])
		return 1
	}
	b.vectors[used] = iovec(p.arena.bytes(k.head))
	b.vectors[used+1] = iovec(p.arena.bytes(k.tail)[:rest])
	return 2
}

// note counts what is being sent.
func (l *lane) note(k *packet, now int64) {
	if late := now - k.due; now != flush {
		l.stats.LateSum += late
		l.stats.LateMax = max(l.stats.LateMax, late)
	}
	if k.order < l.last {
		l.stats.Reordered++
	}
	l.last = max(l.last, k.order)
	l.stats.Sent++
	l.stats.SentBytes += int64(k.size) - vnetHeader
}

// refuse counts a message that was not sent after all.
func (l *lane) refuse(m int) {
	first := 0
	if m > 0 {
		first = l.out.ends[m-1]
	}
	for i := first; i < l.out.ends[m]; i++ {
		l.stats.Sent--
		l.stats.SentBytes -= int64(l.out.packets[i].size) - vnetHeader
		l.stats.Refused++
	}
}

// sendOn sends the first n messages of the batch out by the link.
func (p *plane) sendOn(l *lane, n int) {
	b := l.out
	if l.Header == 0 {
		p.address(l, n)
	}
	for at := 0; at < n; {
		sent, errno := sendmmsg(l.Out, &b.messages[at], n-at)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 { // that of the first; those before it went with the call before
			l.refuse(at)
			sent = 1
		}
		at += sent
	}
}

// address says what protocol a packet is of, where no header of the link does.
// Nothing is merged there.
func (p *plane) address(l *lane, n int) {
	for i := range n {
		name := &l.out.names[0]
		if p.arena.bytes(l.out.packets[i].head)[vnetHeader]>>4 == 6 {
			name = &l.out.names[1]
		}
		name.Ifindex = int32(l.Index)
		m := &l.out.messages[i].Msghdr
		m.Name, m.Namelen = (*byte)(unsafe.Pointer(name)), syscall.SizeofSockaddrLinklayer
	}
}

// writeBack writes the first n messages into the TAP that they came from.
func (p *plane) writeBack(l *lane, n int) {
	for i := range n {
		m := &l.out.messages[i].Msghdr
		if errno := writev(l.TAP, m.Iov, int(m.Iovlen)); errno != 0 {
			l.refuse(i)
		}
	}
}
