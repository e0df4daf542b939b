// Package latency is the Latency Monkey: packets late, lost, doubled,
// corrupted, reordered, slow.
package latency

import (
	"context"
	"errors"
	"fmt"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/gauge"
	"github.com/simianhq/simian/internal/impair"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// The backends that a file may ask for.
const (
	backendNetem = "netem"
	backendQueue = "queue"
)

// defaultLimit is how much a queue holds where the file does not say.
const defaultLimit = 256 << 20 // bytes

// All returns the faults of the Latency Monkey. They read the host through fs.
func All(fs proc.FS) experiment.Catalog[experiment.Fault] {
	host := op.NewHost(fs)
	return experiment.Catalog[experiment.Fault]{
		"latency": func() experiment.Fault { return newFault(host) },
	}
}

// Fault is a bad network: what becomes of packets, and of which.
type Fault struct {
	Delay        experiment.Duration `json:"delay,omitzero" jsonschema:"one way, added to each packet"`
	Jitter       experiment.Duration `json:"jitter,omitzero" jsonschema:"how much the delay varies: uniform: half its width; otherwise its standard deviation"`
	Correlation  experiment.Percent  `json:"correlation,omitzero" jsonschema:"of one delay with the one before"`
	Distribution impair.Distribution `json:"distribution,omitempty" jsonschema:"of the jitter: uniform (default), normal, pareto, paretonormal"`
	Loss         *Loss               `json:"loss,omitempty" jsonschema:"packets lost: 5, {percent, correlation}, {states: {p13, p31, p32, p23, p14}} or {gilbert: {p, r, bad, good}}"`
	Duplicate    *Chance             `json:"duplicate,omitempty" jsonschema:"packets that come twice: 1, or {percent, correlation}"`
	Corrupt      *Chance             `json:"corrupt,omitempty" jsonschema:"packets with one bit flipped: 1, or {percent, correlation}"`
	Reorder      *Reorder            `json:"reorder,omitempty" jsonschema:"packets that are not delayed, and so overtake those that are: 25, or {percent, correlation, gap}"`
	Rate         *Rate               `json:"rate,omitempty" jsonschema:"how fast packets go: 10mbit, or {rate, burst, overhead}"`
	Backend      string              `json:"backend,omitempty" jsonschema:"netem or queue forces one; left out, netem where the kernel has it"`
	OnExisting   string              `json:"onExisting,omitempty" jsonschema:"where somebody has put a qdisc at a link's root: refuse (default), or replace it and put it back"`
	Limit        experiment.Size     `json:"limit,omitzero" jsonschema:"most that the queue holds at once (256MiB)"`
	filter.Filter

	host   *op.Host
	gauges *gauge.Choices
}

func newFault(host *op.Host) *Fault { return &Fault{host: host, gauges: gauge.NewChoices(host.FS)} }

// Plan implements experiment.Fault.
func (f *Fault) Plan(ctx context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	p, err := f.planner(ctx, run, t)
	if err != nil {
		return nil, err
	}
	switch {
	case f.Backend == "" && p.lossAlone():
		return p.byTable()
	case f.Backend == backendQueue:
		return p.byQueue()
	}
	err = p.canNetem()
	switch {
	case err == nil:
		return p.byNetem()
	case f.Backend == backendNetem || !errors.Is(err, experiment.ErrUnsupported):
		return nil, fmt.Errorf("backend netem: %w (backend: queue needs none)", err)
	}
	steps, qerr := p.byQueue()
	if qerr != nil {
		return nil, fmt.Errorf("%w; nor in user space: %w", err, qerr)
	}
	return steps, nil
}

// planner reads what there is to know of t, and notes how its path can be
// measured.
func (f *Fault) planner(ctx context.Context, run experiment.RunID, t experiment.Target) (*planner, error) {
	m, err := f.Match(ctx, f.host.FS, t)
	if err != nil {
		return nil, err
	}
	ns, err := f.host.FS.NetworkOf(t)
	if err != nil {
		return nil, err
	}
	f.gauges.Note(t, ns, f.Filter, m)
	return &planner{Fault: f, run: run, ns: ns, match: m, config: f.config()}, nil
}

// Measure implements experiment.Measurer.
func (f *Fault) Measure(ctx context.Context, t experiment.Target, p experiment.Phase) (*experiment.Measurement, error) {
	return f.gauges.Measure(ctx, t, p)
}
