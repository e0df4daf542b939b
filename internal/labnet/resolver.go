package labnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
)

const (
	portDNS = 53
	// ttl is how long an answer may be kept, in seconds. Docker says 600; but
	// containers come and go here while somebody looks, and who keeps a dead
	// one's address for long would measure its cache. 0 is not understood by
	// all.
	ttl = 1
	// bufferSize is what fits into an unfragmented packet anywhere
	// (dnsflagday.net/2020).
	bufferSize = 1232
	// maxTCP bounds the connections to one gateway address: they are this
	// process's descriptors.
	maxTCP = 256
)

// resolver answers DNS queries at port 53 of each gateway address. Who asks is
// known by its address.
type resolver struct {
	names    *directory
	upstream *forwarder
	servers  []*dns.Server
	serving  sync.WaitGroup
	stop     context.CancelFunc
	ctx      context.Context // of queries under way: miekg/dns hands none to a handler
}

// startResolver listens in the lab's namespace. The context ends nothing but
// the start.
func startResolver(ctx context.Context, ns *os.File, names *directory, upstream *forwarder) (*resolver, error) {
	r := &resolver{names: names, upstream: upstream}
	r.ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	err := inNamespace(ns, func() error { // sockets are of the thread's namespace for good
		for _, n := range names.networks {
			if err := r.listen(ctx, netip.AddrPortFrom(n.Gateway, portDNS).String()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.close()
		return nil, fmt.Errorf("start the resolver: %w", err)
	}
	return r, nil
}

func (r *resolver) listen(ctx context.Context, address string) error {
	var config net.ListenConfig
	udp, err := config.ListenPacket(ctx, "udp4", address)
	if err != nil {
		return err
	}
	r.serve(&dns.Server{PacketConn: udp, Handler: r, UDPSize: bufferSize})
	tcp, err := config.Listen(ctx, "tcp4", address)
	if err != nil {
		return err
	}
	r.serve(&dns.Server{Listener: netutil.LimitListener(tcp, maxTCP), Handler: r})
	return nil
}

// serve returns when the server has started: one that has not can't be shut
// down.
func (r *resolver) serve(s *dns.Server) {
	r.servers = append(r.servers, s)
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	r.serving.Go(func() { _ = s.ActivateAndServe() }) // ends by close only
	<-started
}

// close returns when no query is under way any more.
func (r *resolver) close() {
	r.stop()
	for _, s := range r.servers {
		_ = s.Shutdown()
	}
	r.serving.Wait()
}

// ServeDNS implements dns.Handler.
func (r *resolver) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	asker, err := netip.ParseAddrPort(w.RemoteAddr().String())
	if err != nil {
		return
	}
	tcp := w.RemoteAddr().Network() == "tcp"
	reply := r.answer(r.ctx, asker.Addr(), query, tcp)
	reply.Compress = true
	if !tcp {
		reply.Truncate(room(query))
	}
	if w.WriteMsg(reply) != nil { // one that can't be packed
		_ = w.WriteMsg(new(dns.Msg).SetRcode(query, dns.RcodeServerFailure))
	}
}

// room is how much the asker takes in one UDP packet.
func room(query *dns.Msg) int {
	if opt := query.IsEdns0(); opt != nil {
		return max(dns.MinMsgSize, int(opt.UDPSize()))
	}
	return dns.MinMsgSize
}

// answer answers for the lab's names and addresses, and hands other questions
// on.
func (r *resolver) answer(ctx context.Context, asker netip.Addr, query *dns.Msg, tcp bool) *dns.Msg {
	if len(query.Question) != 1 || query.Opcode != dns.OpcodeQuery {
		return new(dns.Msg).SetRcode(query, dns.RcodeNotImplemented)
	}
	q := query.Question[0]
	if records, ours := r.local(asker, q); ours {
		return own(query, records)
	}
	return r.upstream.forward(ctx, asker, query, tcp)
}

// local returns what the lab knows: nil where a name of its own leads nowhere,
// empty where it leads somewhere but has no record of the type.
func (r *resolver) local(asker netip.Addr, q dns.Question) (records []dns.RR, ours bool) {
	if q.Qclass != dns.ClassINET && q.Qclass != dns.ClassANY {
		return nil, false
	}
	if address, ok := addressOfPTR(q.Name); ok {
		name, ours := r.names.nameOf(asker, address)
		if name == "" {
			return nil, ours
		}
		return wanted(q, &dns.PTR{Hdr: header(q, dns.TypePTR), Ptr: dns.Fqdn(name)}), true
	}
	addresses, ours := r.names.find(asker, q.Name)
	for _, a := range addresses {
		records = append(records, &dns.A{Hdr: header(q, dns.TypeA), A: a.AsSlice()})
	}
	if records == nil {
		return nil, ours
	}
	return wanted(q, records...), ours
}

func header(q dns.Question, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: q.Name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// wanted keeps the records if they are of the type asked for. The result is
// never nil.
func wanted(q dns.Question, records ...dns.RR) []dns.RR {
	if q.Qtype == dns.TypeANY || q.Qtype == records[0].Header().Rrtype {
		return records
	}
	return []dns.RR{}
}

// own is a reply from what the lab knows.
func own(query *dns.Msg, records []dns.RR) *dns.Msg {
	reply := new(dns.Msg).SetReply(query)
	reply.RecursionAvailable = true
	reply.Answer = records
	if records == nil {
		reply.Rcode = dns.RcodeNameError
	}
	if query.IsEdns0() != nil {
		reply.SetEdns0(bufferSize, false)
	}
	return reply
}

// addressOfPTR reads a name such as 2.0.64.10.in-addr.arpa. (RFC 1035, 3.5).
func addressOfPTR(name string) (netip.Addr, bool) {
	reversed, ok := strings.CutSuffix(plainName(name), ".in-addr.arpa")
	if !ok {
		return netip.Addr{}, false
	}
	parts := strings.Split(reversed, ".")
	if len(parts) != 4 {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
	return a, err == nil
}

// addressesOf looks a name up as one who asks ask for its addresses, and words
// the error as package net does.
func addressesOf(ctx context.Context, host string, ask func(context.Context, *dns.Msg) (*dns.Msg, error)) ([]netip.Addr, error) {
	failure := &net.DNSError{Name: host}
	if _, ok := dns.IsDomainName(host); !ok {
		failure.Err, failure.IsNotFound = "no such host", true
		return nil, failure
	}
	query := new(dns.Msg).SetQuestion(dns.Fqdn(host), dns.TypeA)
	reply, err := ask(ctx, query.SetEdns0(bufferSize, false))
	if err != nil {
		var timeout net.Error
		failure.Err, failure.UnwrapErr = err.Error(), err
		failure.IsTimeout = errors.As(err, &timeout) && timeout.Timeout()
		return nil, failure
	}
	var list []netip.Addr
	for _, record := range reply.Answer {
		if a, ok := record.(*dns.A); ok {
			address, _ := netip.AddrFromSlice(a.A.To4())
			list = append(list, address)
		}
	}
	switch {
	case len(list) > 0:
		return list, nil
	case reply.Rcode == dns.RcodeSuccess || reply.Rcode == dns.RcodeNameError:
		failure.Err, failure.IsNotFound = "no such host", true
	default:
		failure.Err, failure.IsTemporary = "server misbehaving", true
	}
	return nil, failure
}
