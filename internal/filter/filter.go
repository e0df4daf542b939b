// Package filter says which packets a fault is about: one filter for all
// faults of the network. A Filter is what a file says; Match resolves it for
// one target into plain data, from which rules are made.
//
// All is told from where the target stands. The far end is who the target
// talks to:
//
//	           egress ──▶   source: the target, sourcePorts    destination: the far end, ports
//	target
//	           ◀── ingress  source: the far end, ports         destination: the target, sourcePorts
//
// So one filter names the same flows whichever way their packets go.
package filter

import (
	"net/netip"

	"github.com/simianhq/simian/experiment"
)

// Filter names flows. It is embedded in faults. What is left out matches all.
type Filter struct {
	Direction   Direction              `json:"direction,omitempty" jsonschema:"egress: packets that leave the target (default); ingress: those that come; both"`
	Interfaces  []string               `json:"interfaces,omitempty" jsonschema:"names of the target's links; left out, all but lo"`
	Protocol    Protocols              `json:"protocol,omitempty" jsonschema:"tcp, udp, icmp or sctp, or a list of them; icmp is ICMPv6 too"`
	Ports       Ports                  `json:"ports,omitempty" jsonschema:"ports of the far end: 5432, or a list with ranges such as 8000-8099"`
	SourcePorts Ports                  `json:"sourcePorts,omitempty" jsonschema:"ports of the target itself, in the same form"`
	Hosts       []string               `json:"hosts,omitempty" jsonschema:"the far end by name, resolved by the target's own resolver and followed as it changes"`
	CIDRs       []string               `json:"cidrs,omitempty" jsonschema:"the far end by address or range, IPv4 and IPv6"`
	Services    []string               `json:"services,omitempty" jsonschema:"the far end by the name of a cloud's service, such as aws.s3: ready-made lists of hosts (docs/services.md)"`
	Region      string                 `json:"region,omitempty" jsonschema:"of the services, such as eu-west-1"`
	To          *experiment.TargetSpec `json:"to,omitempty" jsonschema:"the far end by a selector of targets: all that it finds"`
	Percent     *experiment.Percent    `json:"percent,omitempty" jsonschema:"only this share of flows; a flow is in or out as a whole"`
	Exclude     *Exclude               `json:"exclude,omitempty" jsonschema:"left alone is what matches any of these"`
	AllowHost   bool                   `json:"allowHost,omitzero" jsonschema:"the target's network may be the host's own"`
	AllowSelf   bool                   `json:"allowSelf,omitzero" jsonschema:"there, also what this session, the resolver and the API server need"`
}

// Exclude is what a filter leaves alone: all that matches any field.
type Exclude struct {
	Protocol    Protocols              `json:"protocol,omitempty" jsonschema:"tcp, udp, icmp or sctp, or a list of them"`
	Ports       Ports                  `json:"ports,omitempty" jsonschema:"ports of the far end"`
	SourcePorts Ports                  `json:"sourcePorts,omitempty" jsonschema:"ports of the target itself"`
	Hosts       []string               `json:"hosts,omitempty" jsonschema:"the far end by name"`
	CIDRs       []string               `json:"cidrs,omitempty" jsonschema:"the far end by address or range"`
	To          *experiment.TargetSpec `json:"to,omitempty" jsonschema:"the far end by a selector of targets"`
}

// Direction says which way packets go, seen from the target.
type Direction string

// The directions. None is Egress.
const (
	Egress  Direction = "egress"
	Ingress Direction = "ingress"
	Both    Direction = "both"
)

// Egress and Ingress tell which ways d names.
func (d Direction) Egress() bool  { return d != Ingress }
func (d Direction) Ingress() bool { return d == Ingress || d == Both }

// Match is a filter resolved for one target: plain data.
type Match struct {
	Links   []Link `json:"links"` // at least one
	Egress  bool   `json:"egress,omitzero"`
	Ingress bool   `json:"ingress,omitzero"`

	Criteria          // a packet must match each list that is not empty
	Except   Criteria `json:"except,omitzero"`  // and none of these
	Percent  float64  `json:"percent,omitzero"` // of flows, 0 to 100; 0 is all of them
	Seed     uint32   `json:"seed,omitzero"`    // which flows those are
	Names    *Names   `json:"names,omitempty"`  // what Far came from, where names are to be followed
	Notes    []string `json:"notes,omitempty"`  // what a user should know: a range that can match nothing here
}

// Criteria are lists of what a packet may have.
type Criteria struct {
	Protocols   []uint8        `json:"protocols,omitempty"` // numbers of IP protocols; in a Match with ports, those that have ports
	Ports       []PortRange    `json:"ports,omitempty"`     // sorted, disjoint
	SourcePorts []PortRange    `json:"sourcePorts,omitempty"`
	Far         []netip.Prefix `json:"far,omitempty"` // addresses of the far end: sorted, disjoint, both families
}

// Link is a network link of the target's by identity.
type Link struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
}

// Names is what must be resolved again as time passes.
type Names struct {
	Hosts       []string             `json:"hosts,omitempty"`
	ExceptHosts []string             `json:"exceptHosts,omitempty"`
	Root        string               `json:"root"`    // of the target's file system: its resolv.conf(5) and hosts(5)
	Process     experiment.ProcessID `json:"process"` // whose root it is
	Net         experiment.Namespace `json:"net"`     // from where to ask
}

// Everything tells whether m matches every packet of its links and directions.
func (m *Match) Everything() bool {
	return len(m.Protocols) == 0 && len(m.Ports) == 0 && len(m.SourcePorts) == 0 && len(m.Far) == 0 &&
		len(m.Except.Protocols) == 0 && len(m.Except.Ports) == 0 && len(m.Except.SourcePorts) == 0 && len(m.Except.Far) == 0 &&
		m.Percent == 0
}

// Beyond implements experiment.Beyond.
func (f *Filter) Beyond() []*experiment.TargetSpec {
	var list []*experiment.TargetSpec
	if f.To != nil {
		list = append(list, f.To)
	}
	if f.Exclude != nil && f.Exclude.To != nil {
		list = append(list, f.Exclude.To)
	}
	return list
}
