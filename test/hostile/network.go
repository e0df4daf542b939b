package main

import (
	"encoding/binary"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// network is the container's own, which it may use but not change, and the
// host's, which it may not reach.
func network() []attempt {
	return []attempt{
		{name: "reach the host's loopback", try: func() error { return connect(&unix.SockaddrInet4{Port: port(), Addr: [4]byte{127, 0, 0, 1}}) }},
		{name: "reach an abstract socket of the host", try: func() error { return connect(&unix.SockaddrUnix{Name: "@" + os.Getenv(envSocket)}) }},
		socket("open a raw socket", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP).because("CAP_NET_RAW is one of the default capabilities: ping needs it"),
		socket("open a packet socket", unix.AF_PACKET, unix.SOCK_RAW, 0).because("it sees its own network namespace only"),
		socket("open a socket to the hypervisor (AF_VSOCK)", unix.AF_VSOCK, unix.SOCK_STREAM, 0),
		socket("open a socket to the kernel's ciphers (AF_ALG)", unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
		socket("open an SCTP socket", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP).because("a protocol like another"),
		{name: "bind port 80", try: bindLow, harmless: "CAP_NET_BIND_SERVICE is one of the default capabilities, and the address its own"},
		{name: "change an interface", try: func() error { return ask(unix.NETLINK_ROUTE, unix.RTM_SETLINK, make([]byte, unix.SizeofIfInfomsg)) }},
		{name: "change a route", try: func() error { return ask(unix.NETLINK_ROUTE, unix.RTM_DELROUTE, make([]byte, unix.SizeofRtMsg)) }},
		{name: "change a queueing discipline", try: func() error { return ask(unix.NETLINK_ROUTE, unix.RTM_DELQDISC, make([]byte, 20)) }},
		{name: "change nftables", try: func() error {
			return ask(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE, make([]byte, 4))
		}},
		{name: "change IPsec", try: func() error { return ask(unix.NETLINK_XFRM, 0x1c, make([]byte, 8)) }},
		{name: "write to the audit log", try: func() error { return ask(unix.NETLINK_AUDIT, 1107, []byte("hostile\x00")) }, harmless: "CAP_AUDIT_WRITE is one of the default capabilities"},
		{name: "turn auditing off", try: func() error { return ask(unix.NETLINK_AUDIT, unix.AUDIT_SET, make([]byte, 40)) }},
	}
}

func port() int {
	p, _ := strconv.Atoi(os.Getenv(envPort))
	return p
}

func connect(to unix.Sockaddr) error {
	family := unix.AF_INET
	if _, ok := to.(*unix.SockaddrUnix); ok {
		family = unix.AF_UNIX
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, to)
}

func socket(name string, family, kind, protocol int) attempt {
	return attempt{name: name, try: func() error {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}}
}

func bindLow() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrInet4{Port: 80, Addr: [4]byte{127, 0, 0, 1}})
}

// ask sends one netlink message and returns the kernel's answer. Messages
// change nothing where the kernel would heed them: they are about interface 0.
func ask(protocol int, kind uint16, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		return err
	}
	message := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	binary.NativeEndian.PutUint32(message[0:], uint32(cap(message)))
	binary.NativeEndian.PutUint16(message[4:], kind)
	binary.NativeEndian.PutUint16(message[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	if err := unix.Sendto(fd, append(message, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return nil
	}
	if errno := -int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}
