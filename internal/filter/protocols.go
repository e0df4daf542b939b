package filter

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Protocols is a protocol's name in a file, or a list of them.
type Protocols []string

// protocols are the numbers of the protocols by name (iana.org, protocol
// numbers). What says icmp means what ping and path MTU discovery need, which
// is another protocol in IPv6.
var protocols = map[string][]uint8{
	"tcp":  {unix.IPPROTO_TCP},
	"udp":  {unix.IPPROTO_UDP},
	"icmp": {unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6},
	"sctp": {unix.IPPROTO_SCTP},
}

// ported are the protocols whose headers begin with two ports.
func ported() []uint8 { return []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP} }

// UnmarshalJSON implements json.Unmarshaler.
func (p *Protocols) UnmarshalJSON(b []byte) error {
	var list []string
	wrong := errors.New("want a protocol such as tcp, or a list of them")
	switch jsontext.Value(b).Kind() {
	case '"':
		list = []string{""}
		if json.Unmarshal(b, &list[0]) != nil {
			return wrong
		}
	case '[':
		if json.Unmarshal(b, &list) != nil {
			return wrong
		}
	default:
		return wrong
	}
	if len(list) == 0 {
		return errors.New("an empty list: leave it out to mean all protocols")
	}
	*p = list
	return p.check()
}

// MarshalJSON implements json.Marshaler: one is written as itself.
func (p Protocols) MarshalJSON() ([]byte, error) {
	if len(p) == 1 {
		return json.Marshal(p[0])
	}
	return json.Marshal([]string(p))
}

// check refuses names that are none of a protocol.
func (p Protocols) check() error {
	for _, name := range p {
		if protocols[name] == nil {
			return unknown("protocol", name, slices.Sorted(maps.Keys(protocols)))
		}
	}
	return nil
}

// numbers returns the numbers of the protocols, sorted.
func (p Protocols) numbers() []uint8 {
	var list []uint8
	for _, name := range p {
		list = append(list, protocols[name]...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// protocolNames returns the names of the numbers, as a file spells them.
func protocolNames(numbers []uint8) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(protocols)) {
		if slices.Contains(numbers, protocols[name][0]) {
			names = append(names, name)
		}
	}
	return names
}

// unknown says that name is none of those known, which was probably meant, and
// which there are.
func unknown(what, name string, known []string) error {
	near := experiment.Nearest(name, known)
	if near != "" {
		near = fmt.Sprintf(" (did you mean %q?)", near)
	}
	return fmt.Errorf("unknown %s %s%s\n        %ss: %s", what, quote(name), near, what, strings.Join(known, " "))
}

// TypeName implements experiment.Typed.
func (Protocols) TypeName() string { return "word or list of them" }
