package dnsrelay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// ownOption is in lookups of Simian's own, so that they are not counted as the
// target's. Its number is one for local use (RFC 6891, 9), which resolvers
// leave aside.
var ownOption = dnsmessage.Option{Code: 65313, Data: []byte("simian")}

// Answer is what a resolver said.
type Answer struct {
	Code  string // NOERROR, NXDOMAIN …
	Addrs []netip.Addr
}

// String gives NXDOMAIN, or NOERROR 192.0.2.1.
func (a Answer) String() string {
	words := []string{a.Code}
	for _, addr := range a.Addrs {
		words = append(words, addr.String())
	}
	return strings.Join(words, " ")
}

var codes = map[dnsmessage.RCode]string{
	dnsmessage.RCodeSuccess: "NOERROR", dnsmessage.RCodeFormatError: "FORMERR", dnsmessage.RCodeServerFailure: "SERVFAIL",
	dnsmessage.RCodeNameError: "NXDOMAIN", dnsmessage.RCodeNotImplemented: "NOTIMP", dnsmessage.RCodeRefused: "REFUSED",
}

// Ask asks a resolver, to which conn is connected by UDP, for a name's record
// of a type, and waits until ctx ends.
func Ask(ctx context.Context, conn net.Conn, name string, kind uint16) (Answer, error) {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	lookup, err := lookupOf(name, dnsmessage.Type(kind))
	if err != nil {
		return Answer{}, err
	}
	if _, err := conn.Write(lookup); err != nil {
		return Answer{}, err
	}
	b := make([]byte, maxPacket)
	for {
		n, err := conn.Read(b)
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		if err != nil {
			return Answer{}, err
		}
		if settles(lookup, b[:n]) {
			return readAnswer(b[:n])
		}
	}
}

func lookupOf(name string, kind dnsmessage.Type) ([]byte, error) {
	asked, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return nil, fmt.Errorf("ask for %q: %w", name, err)
	}
	var h dnsmessage.ResourceHeader
	if err := h.SetEDNS0(bufferSize, dnsmessage.RCodeSuccess, false); err != nil {
		return nil, err
	}
	m := dnsmessage.Message{
		Header:      dnsmessage.Header{ID: uint16(rand.Uint32()), RecursionDesired: true},
		Questions:   []dnsmessage.Question{{Name: asked, Type: kind, Class: dnsmessage.ClassINET}},
		Additionals: []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{Options: []dnsmessage.Option{ownOption}}}},
	}
	return m.Pack()
}

func readAnswer(packet []byte) (a Answer, err error) {
	var m dnsmessage.Message
	if err := m.Unpack(packet); err != nil {
		return a, fmt.Errorf("read the answer: %w", err)
	}
	if a.Code = codes[m.RCode]; a.Code == "" {
		a.Code = fmt.Sprintf("RCODE %d", m.RCode)
	}
	for _, r := range m.Answers {
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			a.Addrs = append(a.Addrs, netip.AddrFrom4(body.A))
		case *dnsmessage.AAAAResource:
			a.Addrs = append(a.Addrs, netip.AddrFrom16(body.AAAA))
		}
	}
	return a, nil
}
