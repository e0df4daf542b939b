package labnet

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// forwardTime is how long upstream resolvers have in all. Askers wait for
	// 5 s (resolv.conf(5)): they shall hear that there is no answer.
	forwardTime = 4 * time.Second
	// maxForwards bounds the questions that are with upstream resolvers at a
	// time: each is a socket of this process. maxOfOne bounds those of one
	// asker, so that it can't use up what all have.
	maxForwards = 512
	maxOfOne    = 32
	resolvConf  = "/etc/resolv.conf"
)

// forwarder asks upstream resolvers: from the namespace of this process, or
// from the lab's where the resolver is a container.
type forwarder struct {
	servers []netip.AddrPort // nil is what conf says at the time
	conf    string
	names   *directory
	inside  dialFunc

	mu    sync.Mutex
	under map[netip.Addr]int // questions under way, by asker
	total int
}

func newForwarder(servers []netip.AddrPort, names *directory, inside dialFunc) *forwarder {
	return &forwarder{servers: servers, conf: resolvConf, names: names, inside: inside, under: map[netip.Addr]int{}}
}

// upstream returns the addresses to ask for an asker, in order: its own, or
// those of the lab, or those of the host. The host's file is read each time: a
// lab may stand for days, while its host moves to another network.
func (f *forwarder) upstream(asker netip.Addr) []string {
	var list []string
	for _, a := range f.names.resolversOf(asker) {
		list = append(list, netip.AddrPortFrom(a, portDNS).String())
	}
	if list != nil {
		return list
	}
	for _, s := range f.servers {
		list = append(list, s.String())
	}
	if f.servers != nil {
		return list
	}
	conf, err := dns.ClientConfigFromFile(f.conf)
	if err != nil {
		return nil
	}
	for _, server := range conf.Servers {
		list = append(list, net.JoinHostPort(server, conf.Port))
	}
	return list
}

// enter says whether one more question may go out.
func (f *forwarder) enter(asker netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.total >= maxForwards || f.under[asker] >= maxOfOne {
		return false
	}
	f.total++
	f.under[asker]++
	return true
}

func (f *forwarder) leave(asker netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.total--
	if f.under[asker]--; f.under[asker] == 0 {
		delete(f.under, asker)
	}
}

// forward returns the reply of the first upstream resolver that has one;
// SERVFAIL where none has, or too many questions are with them already.
// Whole says that the asker can take a reply of any size.
func (f *forwarder) forward(ctx context.Context, asker netip.Addr, query *dns.Msg, whole bool) *dns.Msg {
	refusal := new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
	refusal.RecursionAvailable = true
	if !f.enter(asker) {
		return refusal
	}
	defer f.leave(asker)
	ctx, cancel := context.WithTimeout(ctx, forwardTime)
	defer cancel()
	asked := query.Copy()
	asked.Id = dns.Id() // the asker's may be easy to guess
	servers := f.upstream(asker)
	for i, server := range servers {
		share, done := shareOf(ctx, len(servers)-i)
		reply, err := ask(share, f.dial, server, asked, whole)
		done()
		if err == nil && final(reply, asked) {
			reply.Id = query.Id
			return reply
		}
	}
	return refusal
}

// dial connects to an upstream resolver.
func (f *forwarder) dial(ctx context.Context, network, server string) (net.Conn, error) {
	at, err := netip.ParseAddrPort(server)
	if err == nil && f.names.within(at.Addr()) {
		return f.inside(ctx, network, server)
	}
	return new(net.Dialer).DialContext(ctx, network, server)
}

// final says whether no other resolver needs to be asked.
func final(reply, asked *dns.Msg) bool {
	switch reply.Rcode {
	case dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeNotImplemented:
		return false
	}
	return len(reply.Question) == 1 && reply.Question[0].Qtype == asked.Question[0].Qtype &&
		strings.EqualFold(reply.Question[0].Name, asked.Question[0].Name)
}

// ask sends a query to a resolver: by UDP, and by TCP where the reply did not
// fit but is wanted as a whole.
func ask(ctx context.Context, dial dialFunc, server string, query *dns.Msg, whole bool) (*dns.Msg, error) {
	reply, err := askBy(ctx, dial, "udp", server, query)
	if err != nil || !reply.Truncated || !whole {
		return reply, err
	}
	if all, err := askBy(ctx, dial, "tcp", server, query); err == nil {
		return all, nil
	}
	return reply, nil // there are resolvers that don't listen there
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

func askBy(ctx context.Context, dial dialFunc, network, server string, query *dns.Msg) (*dns.Msg, error) {
	conn, err := dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // Exchange looks at its deadline only
	reply, _, err := (&dns.Client{Net: network, Timeout: forwardTime + time.Second}).
		ExchangeWithConnContext(ctx, query, &dns.Conn{Conn: conn})
	return reply, err
}
