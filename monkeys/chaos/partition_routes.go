package chaos

import (
	"context"
	"fmt"
	"slices"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// routed tells whether the partition is made of routes.
func (p *Partition) routed() bool {
	return slices.Contains([]string{op.RouteBlackhole, op.RouteUnreachable, op.RouteProhibit}, p.How)
}

// validateRoutes refuses what of a filter no route can heed: it knows where
// packets go to, and nothing else of them.
func (p *Partition) validateRoutes() error {
	for _, word := range []struct {
		given bool
		field string
	}{
		{p.Direction != "", "direction"},
		{len(p.Interfaces) > 0, "interfaces"},
		{len(p.Protocol) > 0, "protocol"},
		{len(p.Ports) > 0, "ports"},
		{len(p.SourcePorts) > 0, "sourcePorts"},
		{p.Percent != nil, "percent"},
		{p.Exclude != nil, "exclude"},
		{p.AllowHost, "allowHost"},
		{p.AllowSelf, "allowSelf"},
	} {
		if word.given {
			return experiment.Fieldf(word.field, "a route knows only where packets go to: leave %s out, or say how: drop, reject or reset", word.field)
		}
	}
	if !p.somewhere() {
		return experiment.Fieldf("how", "%s is a route, which leads somewhere: say where by cidrs, hosts, services or to (cidrs: [0.0.0.0/0, '::/0'] is everywhere)", p.How)
	}
	return nil
}

// somewhere tells whether the filter names a far end.
func (p *Partition) somewhere() bool {
	return len(p.CIDRs)+len(p.Hosts)+len(p.Services) > 0 || p.To != nil
}

func (p *Partition) planRoutes(ctx context.Context, t experiment.Target) ([]experiment.Step, error) {
	ns, err := p.host.FS.NetworkOf(t)
	if err != nil {
		return nil, err
	}
	if p.host.FS.HostNetwork(ns) {
		return nil, fmt.Errorf("the network of %s is the host's own, whose routes are left alone (how: drop, reject or reset with allowHost: true go there): %w", t.Name, experiment.ErrProtected)
	}
	m, err := p.Match(ctx, p.host.FS, t)
	if err != nil {
		return nil, err
	}
	links, err := p.host.FS.Links(ns)
	if err != nil {
		return nil, err
	}
	ipv6 := slices.ContainsFunc(links, func(l proc.Link) bool { return !l.Loopback && l.IPv6() })
	step, err := op.PlanRoutes(p.host, ns, p.How, m, !ipv6)
	if err != nil {
		return nil, err
	}
	return []experiment.Step{step}, nil
}
