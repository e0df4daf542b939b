package op

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/simianhq/simian/internal/filter"
)

// hint tells, where nothing matched in a direction, what its packets were
// instead.
func (t *Table) hint(w nftWay, seen map[string]uint64) string {
	n := func(name string) uint64 { return seen[w.name+"_"+name] }
	if n("seen") == 0 {
		return fmt.Sprintf("no packet %s %s", w.verb(), t.linkNames())
	}
	m := &t.Match
	had := func(name string) string { return thousands(n(name) + n("unchosen")) } // those had all
	to, from := "went to", "came from"
	if !w.egress {
		to, from = from, to
	}
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if len(m.Protocols) > 0 {
		add("%s were %s", had("protocol"), protocolsText(m.Protocols))
	}
	if len(m.Ports) > 0 {
		add("%s %s %s%s", had("ports"), to, portsText(m.Ports), swapped(n("ports_swapped"), from, "sourcePorts"))
	}
	if len(m.SourcePorts) > 0 {
		add("%s %s its own %s%s", had("source_ports"), from, portsText(m.SourcePorts), swapped(n("source_ports_swapped"), to, "ports"))
	}
	if t.farWanted() {
		add("%s %s %s", had("far"), to, farText(m.Far))
	}
	for _, also := range [][2]string{
		{"excepted", "left alone by exclude"},
		{"unchosen", "of flows outside of percent " + strconv.FormatFloat(m.Percent, 'g', -1, 64)},
		{"fragments", "later fragments, which have no ports"},
		{"vlan", "of a VLAN"},
		{"other", "ARP, neighbour discovery or no IP"},
	} {
		if n(also[0]) > 0 {
			add("%s %s", thousands(n(also[0])), also[1])
		}
	}
	return fmt.Sprintf("of %s packets that %s %s %s", thousands(n("seen")), w.verb(), t.linkNames(), strings.Join(words, ", "))
}

// swapped asks whether ports were meant the other way round.
func swapped(n uint64, way, field string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s %s it: say %s?)", thousands(n), way, field)
}

func protocolsText(numbers []uint8) string {
	return short(len(numbers), func(i int) string { return protocolName(numbers[i]) }, " or ")
}

func portsText(ports []filter.PortRange) string {
	word := "ports "
	if len(ports) == 1 && ports[0].First == ports[0].Last {
		word = "port "
	}
	return word + short(len(ports), func(i int) string {
		if ports[i].First == ports[i].Last {
			return strconv.Itoa(int(ports[i].First))
		}
		return fmt.Sprintf("%d-%d", ports[i].First, ports[i].Last)
	}, ", ")
}

func farText(far []netip.Prefix) string {
	if len(far) == 0 {
		return "names without an address"
	}
	return short(len(far), func(i int) string {
		if far[i].IsSingleIP() {
			return far[i].Addr().String()
		}
		return far[i].String()
	}, ", ")
}

// short lists the first few of n words.
func short(n int, word func(int) string, between string) string {
	const few = 3
	var words []string
	for i := range min(n, few) {
		words = append(words, word(i))
	}
	s := strings.Join(words, between)
	if n > few {
		s += fmt.Sprintf(" and %s more", thousands(uint64(n-few)))
	}
	return s
}

// thousands writes a number as 1,204.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
