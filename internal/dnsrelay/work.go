package dnsrelay

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/simianhq/simian/internal/helper"
)

// HelperName is argv[0] of a helper that is a relay.
const HelperName = "simian-dns"

// drainTime is how long lookups under way may take when the relay ends.
const drainTime = 100 * time.Millisecond

// Order is what a relay is told. It runs in the target's network namespace,
// and its files were made there. They are named by their place among those
// that come along, from 0 on.
type Order struct {
	Rule      Rule   `json:"rule"`
	Mark      int    `json:"mark"`
	Target    int    `json:"target"`    // a pidfd: the relay ends with that process
	UDP       []int  `json:"udp"`       // sockets that are bound
	TCP       []int  `json:"tcp"`       // sockets that listen
	Lift      []byte `json:"lift"`      // netlink messages that keep anything new from being redirected
	Remove    []byte `json:"remove"`    // and those that remove the table, which is quicker than to close its socket
	Conntrack int    `json:"conntrack"` // a netlink socket (NETLINK_NETFILTER)
	NFT       int    `json:"nft"`       // another one, which is to own the table
}

// work is what the parent asks about.
type work struct {
	Order
	relay *Relay
}

// Begin implements helper.Begin. Args are an Order.
func Begin(args json.RawMessage, files []int) (helper.Work, error) {
	var o Order
	if err := json.Unmarshal(args, &o); err != nil {
		return nil, err
	}
	if err := o.resolve(files); err != nil {
		return nil, err
	}
	track := NewConntrack(o.Conntrack)
	w := &work{o, New(o.Rule, o.Mark, track.Original)}
	for _, fd := range o.UDP {
		if err := w.serveUDP(fd); err != nil {
			return nil, err
		}
	}
	for _, fd := range o.TCP {
		if err := w.serveTCP(fd); err != nil {
			return nil, err
		}
	}
	if err := w.raise(); err != nil {
		return nil, err
	}
	helper.EndWith(o.Target)
	go stray(track)
	return w, nil
}

// highNumber is above those of most sockets that a relay opens.
const highNumber = 512

// raise gives the socket that owns the table a high number: of a process that
// was killed, those with high numbers go first (see queue.Order), and rules
// should go before the sockets that they lead to.
func (w *work) raise() error {
	fd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(w.NFT), syscall.F_DUPFD_CLOEXEC, highNumber)
	if errno != 0 {
		return fmt.Errorf("give the socket for rules another number: %w", errno)
	}
	_ = syscall.Close(w.NFT)
	w.NFT = int(fd)
	return nil
}

// resolve puts descriptors where o names files.
func (o *Order) resolve(files []int) error {
	names := []*int{&o.Target, &o.Conntrack, &o.NFT}
	for _, list := range [][]int{o.UDP, o.TCP} {
		for i := range list {
			names = append(names, &list[i])
		}
	}
	for _, n := range names {
		if *n < 0 || *n >= len(files) {
			return fmt.Errorf("the order names file %d of %d", *n, len(files))
		}
		*n = files[*n]
	}
	return nil
}

func (w *work) serveUDP(fd int) error {
	f := os.NewFile(uintptr(fd), "udp")
	defer f.Close()
	conn, err := net.FilePacketConn(f)
	if err != nil {
		return fmt.Errorf("serve UDP: %w", err)
	}
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return fmt.Errorf("serve UDP: a %s socket", conn.LocalAddr().Network())
	}
	go func() { _ = w.relay.ServeUDP(udp) }()
	return nil
}

func (w *work) serveTCP(fd int) error {
	f := os.NewFile(uintptr(fd), "tcp")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("serve TCP: %w", err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return fmt.Errorf("serve TCP: a %s socket", l.Addr().Network())
	}
	go func() { _ = w.relay.ServeTCP(tcp) }()
	return nil
}

// stray forgets connections that an answer began: it was under way when the
// fault came. Who asks again from the same port would pass the relay by, since
// that counts as the answer to it.
func stray(track *Conntrack) {
	for _, wait := range []time.Duration{100 * time.Millisecond, time.Second, 4 * time.Second, 10 * time.Second} {
		time.Sleep(wait)
		_ = track.Forget(func(e Entry) bool { return e.Orig.Protocol == syscall.IPPROTO_UDP && e.Orig.From.Port() == Port })
	}
}

// Report implements helper.Work: it is Stats.
func (w *work) Report() (any, error) { return w.relay.Stats(), nil }

// Call implements helper.Caller: body is netlink messages for the socket that
// owns the table, the answer is the kernel's.
func (w *work) Call(body []byte) ([]byte, error) { return helper.Exchange(w.NFT, body) }

// End implements helper.Work. Nothing new is redirected from then on; what was
// is translated still, until the table goes.
func (w *work) End() {
	_, _ = helper.Exchange(w.NFT, w.Lift)
	w.relay.Drain(drainTime)
	_, _ = helper.Exchange(w.NFT, w.Remove)
}
