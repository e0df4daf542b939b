package filter

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// Match resolves f for one target. It reads only: the target's links and
// addresses, its resolver, what else is selected. A filter that could match no
// packet is an error, and so is the host's own network without AllowHost
// (experiment.ErrProtected).
func (f *Filter) Match(ctx context.Context, fs proc.FS, t experiment.Target) (Match, error) {
	return f.match(ctx, surroundings{fs: fs, env: ancestry(fs), root: "/"}, t)
}

// surroundings are what a filter reads besides its target.
type surroundings struct {
	fs   proc.FS
	env  func(name string) []string // a variable's values, in this process and those it was started by
	root string                     // of this host's files
}

// matcher resolves a filter for one target.
type matcher struct {
	surroundings
	target experiment.Target
	net    experiment.Namespace
	links  []proc.Link // all there are in it
	names  Names
}

func (f *Filter) match(ctx context.Context, s surroundings, t experiment.Target) (Match, error) {
	net, err := s.fs.NetworkOf(t)
	if err != nil {
		return Match{}, err
	}
	host := s.fs.HostNetwork(net)
	if host && !f.AllowHost {
		return Match{}, fmt.Errorf("the network of %s is the host's own, with all that goes on there (allowHost: true allows it): %w", t.Name, experiment.ErrProtected)
	}
	links, err := s.fs.Links(net)
	if err != nil {
		return Match{}, err
	}
	r := &matcher{surroundings: s, target: t, net: net, links: links}
	r.names = Names{Root: t.Root, Net: net}
	if len(t.PIDs) > 0 {
		r.names.Process = t.PIDs[0]
	}
	m, err := f.begin(links)
	if err != nil {
		return Match{}, err
	}
	m.Seed = seed(t)
	return m, r.fill(ctx, f, &m, host)
}

// begin is what of a match needs no more than the links.
func (f *Filter) begin(all []proc.Link) (Match, error) {
	links, notes, err := f.choose(all)
	m := Match{Links: links, Egress: f.Direction.Egress(), Ingress: f.Direction.Ingress(), Notes: notes}
	if f.Percent != nil && *f.Percent < 100 {
		m.Percent = float64(*f.Percent)
	}
	return m, err
}

// seed says which flows of a target a share is: the same ones at each plan,
// others for each target.
func seed(t experiment.Target) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(t.ID))
	return h.Sum32()
}

// fill adds what a packet may have, and checks that some can have it.
func (r *matcher) fill(ctx context.Context, f *Filter, m *Match, host bool) error {
	served, err := r.services(ctx, f, &m.Notes)
	if err != nil {
		return err
	}
	far, err := r.criteria(ctx, f.far(), &m.Criteria, "", served...)
	if err != nil {
		return err
	}
	if len(m.Ports)+len(m.SourcePorts) > 0 && len(m.Protocols) == 0 {
		m.Protocols = ported() // what stands at their place in others is no port
	}
	except := &netipx.IPSet{}
	if f.Exclude != nil {
		if except, err = r.criteria(ctx, f.Exclude, &m.Except, "exclude/"); err != nil {
			return err
		}
	}
	if host && !f.AllowSelf {
		if except, err = r.spareSelf(ctx, m, except); err != nil {
			return err
		}
	}
	if len(r.names.Hosts)+len(r.names.ExceptHosts) > 0 {
		m.Names = &r.names
	}
	return f.possible(m, endsOf(r.links, m.Links), far, except)
}

// criteria resolves e into c, and returns the addresses of the far end, more
// among them. The fields' names in the file begin with prefix.
func (r *matcher) criteria(ctx context.Context, e *Exclude, c *Criteria, prefix string, more ...netip.Addr) (*netipx.IPSet, error) {
	c.Protocols, c.Ports, c.SourcePorts = e.Protocol.numbers(), e.Ports.merge(), e.SourcePorts.merge()
	var b netipx.IPSetBuilder
	for i, text := range e.CIDRs {
		p, err := parseRange(text)
		if err != nil {
			return nil, place(fmt.Sprintf("%scidrs/%d", prefix, i), err)
		}
		b.AddPrefix(p)
	}
	list, err := r.hosts(ctx, e.Hosts, prefix)
	if err != nil {
		return nil, err
	}
	if e.To != nil {
		peers, err := r.peers(ctx, *e.To)
		if err != nil {
			return nil, place(prefix+"to", err)
		}
		list = append(list, peers...)
	}
	for _, a := range append(list, more...) {
		b.Add(a)
	}
	set, err := b.IPSet()
	if err != nil {
		return nil, err
	}
	if far := set.Prefixes(); len(far) > 0 { // as a journal gives it back
		c.Far = far
	}
	return set, nil
}

// hosts returns the addresses of hosts, and notes those that are names.
func (r *matcher) hosts(ctx context.Context, hosts []string, prefix string) (list []netip.Addr, err error) {
	var names []string
	for _, host := range hosts {
		if a, err := netip.ParseAddr(host); err == nil {
			list = append(list, a.Unmap())
		} else if !slices.Contains(names, host) {
			names = append(names, host)
		}
	}
	if names == nil {
		return list, nil
	}
	resolver, err := r.resolver()
	if err != nil {
		return nil, place(prefix+"hosts", err)
	}
	found, err := resolver.lookupAll(ctx, names)
	if err != nil {
		return nil, place(prefix+"hosts", err)
	}
	if prefix == "" {
		r.names.Hosts = append(r.names.Hosts, names...)
	} else {
		r.names.ExceptHosts = names
	}
	return append(list, found...), nil
}

// resolver resolves names as the target does.
func (r *matcher) resolver() (*resolver, error) {
	if r.target.Root == "" {
		return nil, fmt.Errorf("%s has no files here that say how it resolves names: %w", r.target.Name, experiment.ErrUnsupported)
	}
	return r.names.resolver(r.fs)
}

// choose returns the links that f is about: those it names, or all that are
// up and carry packets of their own.
func (f *Filter) choose(all []proc.Link) (links []Link, notes []string, err error) {
	if len(f.Interfaces) > 0 {
		links, err = f.named(all)
		return links, nil, err
	}
	index := map[int]proc.Link{}
	for _, l := range all {
		index[l.Index] = l
	}
	for _, l := range all {
		if !l.Up || l.Loopback || own(l) || port(index[l.Master]) {
			continue
		}
		links = append(links, Link{l.Name, l.Index})
		if below := index[l.Lower]; below.Up {
			notes = append(notes, fmt.Sprintf("%s stands on %s: its packets pass both (interfaces: says which one is meant)", l.Name, below.Name))
		}
	}
	if links == nil {
		return nil, nil, fmt.Errorf("no link but lo is up there (there are %s): no packet could be matched", linkNames(all))
	}
	return links, notes, nil
}

func (f *Filter) named(all []proc.Link) (links []Link, err error) {
	for i, name := range f.Interfaces {
		at := slices.IndexFunc(all, func(l proc.Link) bool { return l.Name == name })
		switch {
		case at < 0:
			return nil, experiment.Fieldf(fmt.Sprintf("interfaces/%d", i), "no interface %q; there are %s", name, linkNames(all))
		case !all[at].Up:
			return nil, experiment.Fieldf(fmt.Sprintf("interfaces/%d", i), "%s is down: no packet passes it", name)
		}
		if l := (Link{name, all[at].Index}); !slices.Contains(links, l) {
			links = append(links, l)
		}
	}
	return links, nil
}

// own tells whether a run of Simian's made the link for itself: an ifb called
// sm, the run and a number (smabc23x0), or a TAP device of its queue
// (smabc23xq0-1).
func own(l proc.Link) bool {
	const run = 6
	rest, found := strings.CutPrefix(l.Name, "sm")
	return found && len(rest) > run && (l.Kind == "ifb" || l.Kind == "tuntap") &&
		!strings.ContainsFunc(rest[:run], func(r rune) bool { return (r < 'a' || r > 'z') && (r < '2' || r > '7') }) &&
		strings.Trim(rest[run:], "0123456789q-") == ""
}

// port tells whether the packets of a link whose master is this one pass the
// master too: they would be met twice.
func port(master proc.Link) bool {
	return slices.Contains([]string{"bridge", "bond", "team", "openvswitch"}, master.Kind)
}

func linkNames(all []proc.Link) string {
	var names []string
	for _, l := range all {
		if !own(l) {
			names = append(names, l.Name)
		}
	}
	return strings.Join(names, ", ")
}
