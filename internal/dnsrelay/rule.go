// Package dnsrelay stands between a target and its resolvers: it answers some
// lookups falsely, and passes all others on to the server that they were meant
// for. An nft table in the target's network namespace redirects what goes to
// port 53 to its sockets:
//
//	target ─▶ port 53 ─redirect▶ 127.0.0.1 or ::1 ─▶ relay ─with Mark▶ the server that was meant
//	                                                 │
//	                                                 └ or an answer of its own, or none, or later
//
// Where a packet was to go before it was redirected, conntrack knows: see
// Conntrack. What the relay itself sends bears a mark, and is left alone.
//
// The package imports the standard library and dnsmessage, which imports next
// to nothing: it runs in a helper, before the rest of the binary is
// initialised (internal/stage).
package dnsrelay

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Port is where resolvers listen (RFC 1035).
const Port = 53

// What becomes of a lookup that matches.
const (
	Drop     = "drop"     // no answer
	Refuse   = "refuse"   // the answer is REFUSED
	NXDomain = "nxdomain" // the answer is that there is no such name
	ServFail = "servfail" // the answer is that the server failed
	Address  = "address"  // the answer is a wrong address
	Slow     = "slow"     // passed on, but later
)

// Rule says which lookups match, and what becomes of them.
type Rule struct {
	How     string        `json:"how"`
	Names   []string      `json:"names,omitempty"`   // patterns, see Matches; none is all names
	Exclude []string      `json:"exclude,omitempty"` // patterns of names that are left alone
	Types   []uint16      `json:"types,omitempty"`   // of records; none is all
	Percent float64       `json:"percent,omitzero"`  // of lookups that match, each by itself; 0 is all
	Four    netip.Addr    `json:"four,omitzero"`     // Address: the answer to A; none is no record
	Six     netip.Addr    `json:"six,omitzero"`      // Address: the answer to AAAA; none is no record
	Delay   time.Duration `json:"delay,omitzero"`    // Slow
}

// The types of records that carry addresses (IANA, DNS parameters), besides A
// and AAAA.
const (
	typeSVCB  = dnsmessage.Type(64)
	typeHTTPS = dnsmessage.Type(65)
)

// matches tells whether a question is one that r is about.
func (r *Rule) matches(q *question) bool {
	switch {
	case len(r.Types) > 0 && !slices.Contains(r.Types, uint16(q.kind)):
		return false
	case r.How == Address && !q.addresses():
		return false
	case slices.ContainsFunc(r.Exclude, q.named):
		return false
	}
	return len(r.Names) == 0 || slices.ContainsFunc(r.Names, q.named)
}

// strikes draws whether a lookup that matches is struck.
func (r *Rule) strikes() bool {
	return r.Percent == 0 || r.Percent >= 100 || rand.Float64()*100 < r.Percent
}

func (q *question) named(pattern string) bool { return Matches(pattern, q.name) }

// addresses tells whether the question is for addresses, or for what may bring
// them along.
func (q *question) addresses() bool {
	switch q.kind {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeALL, typeSVCB, typeHTTPS:
		return true
	}
	return false
}

// Plain is how names are compared: in lower case, without a dot at the end.
func Plain(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Matches tells whether a name matches a pattern, both as Plain gives them. A
// star stands for any characters, dots too: *.example.org is every name below
// example.org.
func Matches(pattern, name string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, first)
	if !ok {
		return false
	}
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(name, part)
		}
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name, rest = name[at+len(part):], more
	}
}
