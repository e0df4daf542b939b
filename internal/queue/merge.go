package queue

import (
	"bytes"
	"encoding/binary"
)

// UDP datagrams of one flow that go at the same time are sent as one: the
// kernel takes it for datagrams of one size that are yet to be cut (UDP
// segmentation offload, as with UDP_SEGMENT of udp(7)), and cuts it where it
// must, at the latest when the receiver gets it. Most of what a small packet
// costs is spent for each time that it goes through the stack, not for its
// bytes.
//
//	virtio_net header, Ethernet, IP, UDP, payload │ payload │ payload │ payload
//	              all of the first packet         │   … of those that follow, the last may be shorter
//
// Only what looks as if the kernel had cut it is merged: without IP options and
// fragments, with checksums that are left to the device, and IPv4's identifier
// of no meaning (DF, RFC 6864).

// Offsets in a frame, from its virtio_net header on (include/uapi/linux/
// virtio_net.h), of those that can be merged.
const (
	vnetFlags, vnetKind, vnetHeaderLen, vnetSegment, vnetStart, vnetOffset = 0, 1, 2, 4, 6, 8

	atEther = vnetHeader
	atIP    = atEther + 14

	needsChecksum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	kindUDP       = 5 // VIRTIO_NET_HDR_GSO_UDP_L4, Linux 6.2

	lenIPv4, lenIPv6, lenUDP = 20, 40, 8
	maxIP                    = 1<<16 - 1
)

// datagram returns where the UDP header of a frame begins, 0 where it is
// nothing that can be merged.
func datagram(f []byte) (atUDP int) {
	if len(f) < atIP+lenIPv4+lenUDP || f[vnetFlags] != needsChecksum || f[vnetKind] != 0 {
		return 0
	}
	ip := f[atIP:]
	switch kind := binary.BigEndian.Uint16(f[atIP-2:]); {
	case kind == 0x0800 && ip[0] == 0x45 && binary.BigEndian.Uint16(ip[6:]) == 0x4000 && ip[9] == 17 &&
		int(binary.BigEndian.Uint16(ip[2:])) == len(ip):
		atUDP = atIP + lenIPv4
	case kind == 0x86dd && len(ip) > lenIPv6+lenUDP && ip[6] == 17 && int(binary.BigEndian.Uint16(ip[4:])) == len(ip)-lenIPv6:
		atUDP = atIP + lenIPv6
	default:
		return 0
	}
	if int(binary.BigEndian.Uint16(f[atUDP+4:])) != len(f)-atUDP || len(f) == atUDP+lenUDP ||
		int(binary.NativeEndian.Uint16(f[vnetStart:])) != atUDP-vnetHeader || binary.NativeEndian.Uint16(f[vnetOffset:]) != 6 {
		return 0
	}
	return atUDP
}

// sameFlow tells whether two frames that can be merged differ in nothing but
// length, identifier, checksums and payload.
func sameFlow(a, b []byte, atUDP int) bool {
	if !bytes.Equal(a[atEther:atIP], b[atEther:atIP]) || !bytes.Equal(a[atUDP:atUDP+4], b[atUDP:atUDP+4]) {
		return false
	}
	a, b = a[atIP:atUDP], b[atIP:atUDP]
	if len(a) == lenIPv4 {
		return bytes.Equal(a[:2], b[:2]) && bytes.Equal(a[6:10], b[6:10]) && bytes.Equal(a[12:], b[12:])
	}
	return bytes.Equal(a[:4], b[:4]) && bytes.Equal(a[6:], b[6:])
}

// merge adds the payloads of packets that follow the first one to its message,
// as vectors from used on, and returns how many packets those are. No packet is
// at or behind end.
func (p *plane) merge(b *batch, first, end, used int) (more int) {
	f := p.frame(&b.packets[first])
	atUDP := datagram(f)
	if atUDP == 0 {
		return 0
	}
	size := len(f) - atUDP - lenUDP
	length := len(f) - atIP
	for i := first + 1; i < end; i++ {
		g := p.frame(&b.packets[i])
		extra := len(g) - atUDP - lenUDP
		if datagram(g) != atUDP || extra > size || length+extra > maxIP || !sameFlow(f, g, atUDP) {
			break
		}
		b.vectors[used+more] = iovec(g[atUDP+lenUDP:])
		more++
		length += extra
		if extra < size {
			break
		}
	}
	if more > 0 {
		grow(f, atUDP, size, length)
	}
	return more
}

// frame returns the bytes of a packet, nil where it is not in one piece.
func (p *plane) frame(k *packet) []byte {
	if k.tail != none {
		return nil
	}
	return p.arena.bytes(k.head)[:k.size]
}

// grow makes the headers of a frame those of a packet whose IP part has length
// bytes, to be cut into datagrams of size bytes. The checksum of UDP is of its
// pseudo header alone, and is to be completed.
func grow(f []byte, atUDP, size, length int) {
	f[vnetKind] = kindUDP
	binary.NativeEndian.PutUint16(f[vnetHeaderLen:], uint16(atUDP+lenUDP-vnetHeader))
	binary.NativeEndian.PutUint16(f[vnetSegment:], uint16(size))
	ip, udp := f[atIP:atUDP], f[atUDP:]
	was := binary.BigEndian.Uint16(udp[4:])
	now := uint16(length - len(ip))
	binary.BigEndian.PutUint16(udp[4:], now)
	binary.BigEndian.PutUint16(udp[6:], fold(uint32(binary.BigEndian.Uint16(udp[6:]))+uint32(^was)+uint32(now)))
	if len(ip) == lenIPv6 {
		binary.BigEndian.PutUint16(ip[4:], now)
		return
	}
	binary.BigEndian.PutUint16(ip[2:], uint16(length))
	binary.BigEndian.PutUint16(ip[10:], 0)
	sum := uint32(0)
	for i := 0; i < lenIPv4; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^fold(sum))
}

// fold adds the carries of a sum in ones' complement (RFC 1071).
func fold(sum uint32) uint16 {
	sum = sum&0xffff + sum>>16
	return uint16(sum + sum>>16)
}
