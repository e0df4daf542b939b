package chaos

import (
	"context"
	"slices"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/gauge"
	"github.com/simianhq/simian/internal/op"
)

// Partition keeps packets from a target, and the target's from others: they
// are dropped without a word, rejected, or their TCP connections are reset; or
// routes lead nowhere.
type Partition struct {
	How string `json:"how,omitempty" jsonschema:"drop: silently, as a dead link does (default); reject: the sender is told by ICMP; reset: TCP is reset, all else rejected; blackhole, unreachable, prohibit: routes that lead nowhere"`
	filter.Filter

	host   *op.Host
	gauges *gauge.Choices
}

// partitions makes partitions that share a host.
func partitions(host *op.Host) func() experiment.Fault {
	return func() experiment.Fault { return &Partition{host: host, gauges: gauge.NewChoices(host.FS)} }
}

var ways = []string{"", op.ActDrop, op.ActReject, op.ActReset, op.RouteBlackhole, op.RouteUnreachable, op.RouteProhibit}

// Validate implements experiment.Validator.
func (p *Partition) Validate() error {
	if !slices.Contains(ways, p.How) {
		return experiment.Fieldf("how", "unknown word %q\n        words: drop reject reset blackhole unreachable prohibit", p.How)
	}
	if p.routed() {
		return p.validateRoutes()
	}
	return nil // the filter's own is asked for too
}

// Plan implements experiment.Fault.
func (p *Partition) Plan(ctx context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	if p.routed() {
		return p.planRoutes(ctx, t)
	}
	f := p.Filter
	if f.Direction == "" {
		f.Direction = filter.Both
	}
	m, err := f.Match(ctx, p.host.FS, t)
	if err != nil {
		return nil, err
	}
	ns, err := p.host.FS.NetworkOf(t)
	if err != nil {
		return nil, err
	}
	name, err := op.FreeTableName(p.host, ns, run)
	if err != nil {
		return nil, err
	}
	act := op.TableAct{Kind: p.How}
	if act.Kind == "" {
		act.Kind = op.ActDrop
	}
	do := op.NewTable(p.host, ns, name, m, act)
	if err := op.CheckNft(do); err != nil {
		return nil, err
	}
	p.gauges.Note(t, ns, f, m)
	return []experiment.Step{{Do: do, Undo: do.Gone()}}, nil
}

// Measure implements experiment.Measurer.
func (p *Partition) Measure(ctx context.Context, t experiment.Target, phase experiment.Phase) (*experiment.Measurement, error) {
	if p.How == op.ActReject || p.How == op.ActReset || p.routed() {
		return nil, nil // being turned away is an answer too, and what leads nowhere is tried by the op
	}
	return p.gauges.Measure(ctx, t, phase)
}
