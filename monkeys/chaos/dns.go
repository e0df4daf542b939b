package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/dnsrelay"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// DNS makes lookups of a target fail, or answers them falsely: those of all
// names, or of some. The others go on to the resolver that they were meant
// for.
type DNS struct {
	How       string              `json:"how,omitempty" jsonschema:"drop: no answer (default); refuse: REFUSED; nxdomain: no such name; servfail: the server failed; address: a wrong one, see addresses; slow: the right answer, see delay"`
	Names     []string            `json:"names,omitempty" jsonschema:"names as programs say them, or patterns: *.example.org is every name below it; left out, all names"`
	Services  []string            `json:"services,omitempty" jsonschema:"names of a cloud's services, such as aws.s3: ready-made lists (docs/services.md)"`
	Region    string              `json:"region,omitempty" jsonschema:"of the services, such as eu-west-1"`
	Exclude   []string            `json:"exclude,omitempty" jsonschema:"names and patterns that are left alone"`
	Types     []string            `json:"types,omitempty" jsonschema:"of records: A, AAAA, MX … ; left out, all; for address, A and AAAA"`
	Addresses []string            `json:"addresses,omitempty" jsonschema:"the wrong answer: one IPv4 address, one IPv6 address, or both; a name has no address of a family that is not given"`
	Delay     experiment.Duration `json:"delay,omitzero" jsonschema:"how: slow: how much later lookups reach the resolver"`
	Percent   *experiment.Percent `json:"percent,omitempty" jsonschema:"only this share of lookups, each by itself"`

	host   *op.Host
	checks *dnsChecks
}

// dnsFaults makes dns faults that share a host.
func dnsFaults(host *op.Host) func() experiment.Fault {
	return func() experiment.Fault { return &DNS{host: host, checks: &dnsChecks{fs: host.FS}} }
}

// Plan implements experiment.Fault.
func (d *DNS) Plan(_ context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	ns, err := d.namespace(t)
	if err != nil {
		return nil, err
	}
	six, err := loopbackOf(d.host.FS, ns, t.Name)
	if err != nil {
		return nil, err
	}
	how, err := filter.ReadResolution(d.host.FS, t)
	if err != nil && !errors.Is(err, experiment.ErrUnsupported) {
		return nil, err
	}
	rule, err := d.rule(how)
	if err != nil {
		return nil, err
	}
	if err := op.CheckRedirect(d.host); err != nil {
		return nil, err
	}
	do := op.NewDNS(d.host, op.DNS{Net: ns, Run: run, Target: t.PIDs[0], Rule: rule, Six: six, Remarks: d.notes(how, six)})
	d.checks.note(t, ns, rule, how)
	return []experiment.Step{{Do: do, Undo: do.Gone()}}, nil
}

// namespace is the target's network, which must be its own.
func (d *DNS) namespace(t experiment.Target) (experiment.Namespace, error) {
	if len(t.PIDs) == 0 {
		return t.Net, fmt.Errorf("%s has no process here: %w", t.Name, experiment.ErrUnsupported)
	}
	ns, err := d.host.FS.NetworkOf(t)
	if err == nil && d.host.FS.HostNetwork(ns) {
		err = fmt.Errorf("the network of %s is the host's own, and so are its lookups: give it a network namespace of its own: %w", t.Name, experiment.ErrProtected)
	}
	return ns, err
}

// loopbackOf tells whether lookups by IPv6 can be redirected to ::1. Those by
// IPv4 must be.
func loopbackOf(fs proc.FS, ns experiment.Namespace, name string) (six bool, err error) {
	links, err := fs.Links(ns)
	if err != nil {
		return false, err
	}
	for _, l := range links {
		if l.Loopback && l.Up {
			return slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Addr() == netip.IPv6Loopback() }), nil
		}
	}
	return false, fmt.Errorf("lo is down in the network of %s: lookups are redirected over it: %w", name, experiment.ErrUnsupported)
}

// rule is what the relay is told. Names are as a resolver is asked for them.
func (d *DNS) rule(how *filter.Resolution) (dnsrelay.Rule, error) {
	r := dnsrelay.Rule{How: d.how(), Delay: d.Delay.D(), Names: asked(how, d.patterns()), Exclude: asked(how, d.Exclude)}
	if d.Percent != nil && *d.Percent < 100 {
		r.Percent = float64(*d.Percent)
	}
	for _, name := range d.Types {
		r.Types = append(r.Types, recordTypes[name])
	}
	for _, text := range d.Addresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return r, err
		}
		if a.Is4() {
			r.Four = a
		} else {
			r.Six = a
		}
	}
	if len(r.Names) > 0 && !slices.ContainsFunc(r.Names, func(name string) bool { return !excluded(&r, name) }) {
		return r, experiment.Fieldf("exclude", "leaves nothing of names")
	}
	return r, nil
}

func excluded(r *dnsrelay.Rule, name string) bool {
	return slices.ContainsFunc(r.Exclude, func(p string) bool { return p == name || dnsrelay.Matches(p, name) })
}

// patterns are the names that the file gives, or stands for. Those of services
// are whole: no search domain is put behind them.
func (d *DNS) patterns() []string {
	list := slices.Clone(d.Names)
	for _, service := range d.Services {
		for _, name := range filter.ServicePatterns(service, d.Region) {
			list = append(list, name+".")
		}
	}
	return list
}

func (d *DNS) how() string {
	if d.How == "" {
		return dnsrelay.Drop
	}
	return d.How
}

// asked gives names as a resolver is asked for them: with the target's search
// domains, as its own programs do it.
func asked(how *filter.Resolution, names []string) (list []string) {
	for _, name := range names {
		full := []string{dnsrelay.Plain(name)}
		if how != nil && !isPattern(name) {
			full = how.Asked(name)
		}
		for _, f := range full {
			if !slices.Contains(list, f) {
				list = append(list, f)
			}
		}
	}
	return list
}

// notes are what a user should know before.
func (d *DNS) notes(how *filter.Resolution, six bool) []string {
	notes := []string{"lookups over TLS or HTTPS, from a cache and from hosts(5) are not reached"}
	if !six {
		notes = append(notes, "lookups by IPv6 are not reached: lo has no ::1 there")
	}
	if how == nil {
		return append(notes, "names must be given in full: the target's search domains are not known")
	}
	for _, name := range d.patterns() {
		if !isPattern(name) && how.InHosts(name) {
			notes = append(notes, name+" stands in the target's hosts(5): no resolver is asked for it")
		}
	}
	for _, s := range how.Servers {
		if s.Is6() && s.IsLinkLocalUnicast() {
			notes = append(notes, fmt.Sprintf("lookups at %s are not reached: it is a link-local address", s))
		}
	}
	return notes
}
