package filter

import (
	"net/netip"
	"strconv"
	"strings"
)

// String gives the match as a plan shows it: "eth0 egress tcp to
// 10.1.0.7:5432", or "all packets that leave eth0".
func (m *Match) String() string {
	names := make([]string, len(m.Links))
	for i, l := range m.Links {
		names[i] = l.Name
	}
	p := phrase{
		links: strings.Join(names, ","), egress: m.Egress, ingress: m.Ingress, percent: m.Percent,
		protocols: protocolNames(m.Protocols), ports: m.Ports, source: m.SourcePorts, far: places(m.Far),
		except: append(protocolNames(m.Except.Protocols), portWords(m.Except.Ports, m.Except.SourcePorts)...),
	}
	if len(m.Ports)+len(m.SourcePorts) > 0 && len(m.Protocols) == len(ported()) {
		p.protocols = nil // it says so already
	}
	p.except = append(p.except, places(m.Except.Far)...)
	return p.String()
}

// String gives the filter as its file says it: "egress tcp to db:5432".
func (f *Filter) String() string {
	p := phrase{
		links: strings.Join(f.Interfaces, ","), egress: f.Direction.Egress(), ingress: f.Direction.Ingress(),
		protocols: f.Protocol, ports: f.Ports, source: f.SourcePorts, far: append(f.far().places(), f.Services...),
	}
	if f.Percent != nil && *f.Percent < 100 {
		p.percent = float64(*f.Percent)
	}
	if e := f.Exclude; e != nil {
		p.except = append(append([]string{}, e.Protocol...), portWords(e.Ports, e.SourcePorts)...)
		p.except = append(p.except, e.places()...)
	}
	return p.String()
}

// places are the far end in the file's words.
func (e *Exclude) places() []string {
	list := append(append([]string{}, e.Hosts...), e.CIDRs...)
	if e.To != nil {
		list = append(list, "targets of type "+e.To.Type)
	}
	return list
}

// places writes a single address without its length.
func places(list []netip.Prefix) []string {
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = p.String()
		if p.IsSingleIP() {
			words[i] = p.Addr().String()
		}
	}
	return words
}

func portWords(far, own []PortRange) (words []string) {
	if len(far) > 0 {
		words = append(words, portsOf(far))
	}
	if len(own) > 0 {
		words = append(words, "its own "+portsOf(own))
	}
	return words
}

func portsOf(list []PortRange) string {
	if len(list) == 1 && list[0].First == list[0].Last {
		return "port " + list[0].String()
	}
	return "ports " + cut(strings.Split(Ports(list).String(), ","), ",")
}

// phrase is a filter in words.
type phrase struct {
	links           string
	egress, ingress bool
	protocols       []string
	far             []string
	ports, source   Ports
	except          []string
	percent         float64
}

func (p phrase) String() string {
	if len(p.protocols)+len(p.far)+len(p.ports)+len(p.source)+len(p.except) == 0 && p.percent == 0 {
		return p.all()
	}
	words := []string{p.links, p.way("egress", "ingress", "both ways"), strings.Join(p.protocols, ","), p.end()}
	if len(p.source) > 0 {
		words = append(words, "at its own "+portsOf(p.source))
	}
	text := strings.Join(strings.Fields(strings.Join(words, " ")), " ")
	if len(p.except) > 0 {
		text += ", except " + cut(p.except, ", ")
	}
	if p.percent > 0 {
		text += ", " + strconv.FormatFloat(p.percent, 'g', -1, 64) + "% of flows"
	}
	return text
}

// all is a filter that matches every packet.
func (p phrase) all() string {
	links := p.links
	if links == "" {
		links = "all links but lo"
	}
	return "all packets " + p.way("that leave", "that come in by", "of") + " " + links
}

// way is the word for the packets' direction.
func (p phrase) way(egress, ingress, both string) string {
	switch {
	case !p.ingress:
		return egress
	case !p.egress:
		return ingress
	}
	return both
}

// end is the far end: to 10.1.0.7:5432.
func (p phrase) end() string {
	way := p.way("to ", "from ", "with ")
	switch {
	case len(p.far) == 0 && len(p.ports) == 0:
		return ""
	case len(p.far) == 0:
		return way + portsOf(p.ports)
	case len(p.ports) == 0:
		return way + cut(p.far, ", ")
	case len(p.far) == 1 && len(p.ports) == 1 && !strings.ContainsAny(p.far[0], "/ "):
		host := p.far[0]
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return way + host + ":" + p.ports[0].String()
	}
	return way + cut(p.far, ", ") + ", " + portsOf(p.ports)
}
