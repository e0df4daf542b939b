package filter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

const (
	portDNS = 53
	// askTime is how long a server has for one try, and tries how often each
	// is asked. That is less than the C library's 5 s: an experiment waits.
	askTime = time.Second
	tries   = 2
	// maxAnswer is more than any server sends by UDP unasked, in bytes.
	maxAnswer = 4096
	maxCNAMEs = 16
)

// What may be wrong with a name, as far as it matters for the next one.
var (
	errNoName  = errors.New("no such name")
	errRefused = errors.New("the server refuses or fails")
)

// resolver finds the addresses of a name as a program in a target does: in
// its hosts(5), then by DNS as its resolv.conf(5) says, from its own network
// namespace.
type resolver struct {
	local map[string][]netip.Addr
	conf  resolvConf
	dial  func(ctx context.Context, network string, server netip.Addr) (net.Conn, error)
}

// newResolver reads the files of a target's root. Its process must be there
// still, or the root is that of another by now.
func newResolver(fs proc.FS, root string, whose experiment.ProcessID, ns experiment.Namespace) (*resolver, error) {
	hosts, err := readBelow(root, "etc/hosts")
	if err != nil {
		return nil, err
	}
	conf, err := readBelow(root, "etc/resolv.conf")
	if err != nil {
		return nil, err
	}
	if whose.PID != 0 && !fs.Alive(whose) {
		return nil, fmt.Errorf("%s, whose files say how names are resolved: %w", whose, experiment.ErrGone)
	}
	return &resolver{local: parseHosts(string(hosts)), conf: parseResolvConf(string(conf)), dial: dialFrom(fs, ns)}, nil
}

// dialFrom connects from a network namespace. Where the address is a literal
// one, package net opens the socket on the thread that asks for it.
func dialFrom(fs proc.FS, ns experiment.Namespace) func(context.Context, string, netip.Addr) (net.Conn, error) {
	return func(ctx context.Context, network string, server netip.Addr) (conn net.Conn, err error) {
		err = fs.InNetwork(ns, func() error {
			if link, err := net.InterfaceByName(server.Zone()); err == nil { // net's own table of zones is of one namespace
				server = server.WithZone(fmt.Sprint(link.Index))
			}
			conn, err = new(net.Dialer).DialContext(ctx, network, netip.AddrPortFrom(server, portDNS).String())
			return err
		})
		return conn, err
	}
}

// lookup returns the addresses of a host, both families. The error names the
// host, and who was asked for what.
func (r *resolver) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if list := r.local[plainName(host)]; list != nil {
		return list, nil
	}
	names := r.conf.candidates(host)
	failure := errNoName
	for i, name := range names {
		list, err := r.ask(ctx, name)
		if err == nil {
			return list, nil
		}
		if !errors.Is(err, errNoName) {
			failure = err
		}
		if !errors.Is(err, errNoName) && !errors.Is(err, errRefused) {
			names = names[:i+1] // nobody answers: the next name would only take as long
			break
		}
	}
	return nil, fmt.Errorf("%s does not resolve: %w (asked %s for %s)", quote(host), failure, few(r.conf.servers), strings.Join(names, " "))
}

// ask asks for the addresses of both families at once. As to the C library,
// one that answers is enough.
func (r *resolver) ask(ctx context.Context, name string) ([]netip.Addr, error) {
	kinds := []uint16{dns.TypeA, dns.TypeAAAA}
	var lists [2][]netip.Addr
	var errs [2]error
	var both sync.WaitGroup
	for i, kind := range kinds {
		both.Go(func() { lists[i], errs[i] = r.query(ctx, name, kind) })
	}
	both.Wait()
	if list := slices.Concat(lists[0], lists[1]); len(list) > 0 {
		return list, nil
	}
	for _, err := range errs {
		if err != nil && !errors.Is(err, errNoName) {
			return nil, err
		}
	}
	return nil, errNoName
}

// query asks each server in turn, twice, until one knows.
func (r *resolver) query(ctx context.Context, name string, kind uint16) ([]netip.Addr, error) {
	var failure error
	for range tries {
		for _, server := range r.conf.servers {
			reply, err := r.exchange(ctx, server, new(dns.Msg).SetQuestion(name, kind))
			if err == nil {
				return addresses(reply, name)
			}
			if failure == nil || errors.Is(err, errRefused) { // an answer says more than none
				failure = err
			}
			if ctx.Err() != nil {
				return nil, failure
			}
		}
	}
	return nil, failure
}

// exchange asks one server: by UDP, and by TCP where the answer did not fit.
func (r *resolver) exchange(ctx context.Context, server netip.Addr, query *dns.Msg) (*dns.Msg, error) {
	reply, err := r.exchangeBy(ctx, "udp", server, query)
	if err == nil && reply.Truncated {
		reply, err = r.exchangeBy(ctx, "tcp", server, query)
	}
	if err != nil {
		return nil, fmt.Errorf("no answer from %s: %w", server, err)
	}
	if reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("%s from %s: %w", dns.RcodeToString[reply.Rcode], server, errRefused)
	}
	return reply, nil
}

func (r *resolver) exchangeBy(ctx context.Context, network string, server netip.Addr, query *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	conn, err := r.dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // the client looks at the deadline only
	client := dns.Client{Net: network, Timeout: askTime, UDPSize: maxAnswer}
	reply, _, err := client.ExchangeWithConnContext(ctx, query, &dns.Conn{Conn: conn})
	if err != nil {
		return nil, err
	}
	if !reply.Response || len(reply.Question) != 1 || reply.Question[0].Qtype != query.Question[0].Qtype ||
		!strings.EqualFold(reply.Question[0].Name, query.Question[0].Name) {
		return nil, errors.New("it answers another question")
	}
	return reply, nil
}

// addresses returns those of a name, or of what it is an alias of (RFC 1034,
// 3.6.2).
func addresses(reply *dns.Msg, name string) ([]netip.Addr, error) {
	var list []netip.Addr
	for range maxCNAMEs {
		next := ""
		for _, rr := range reply.Answer {
			if !strings.EqualFold(rr.Header().Name, name) {
				continue
			}
			switch rr := rr.(type) {
			case *dns.A:
				list = appendIP(list, rr.A)
			case *dns.AAAA:
				list = appendIP(list, rr.AAAA)
			case *dns.CNAME:
				next = rr.Target
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	if len(list) == 0 {
		return nil, errNoName
	}
	return list, nil
}

func appendIP(list []netip.Addr, ip net.IP) []netip.Addr {
	if a, ok := netip.AddrFromSlice(ip); ok {
		list = append(list, a.Unmap())
	}
	return list
}
