package latency

import (
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/impair"
	"github.com/simianhq/simian/internal/op"
)

// planner makes the steps for one target.
type planner struct {
	*Fault
	run    experiment.RunID
	ns     experiment.Namespace
	match  filter.Match
	config impair.Config
}

// lossAlone tells whether packets are lost at random and that is all: then
// neither netem nor a queue is needed.
func (p *planner) lossAlone() bool {
	only := impair.Config{Loss: impair.Loss{Chance: impair.Chance{Percent: p.config.Loss.Percent}}}
	return p.config == only
}

// byTable loses packets in the kernel, by nftables.
func (p *planner) byTable() ([]experiment.Step, error) {
	table, err := p.table(p.match, "", op.TableAct{Kind: op.ActDrop, Percent: p.config.Loss.Percent})
	if err != nil {
		return nil, err
	}
	return []experiment.Step{table}, nil
}

// table is the step that makes an nft table of packets that match.
func (p *planner) table(m filter.Match, suffix string, act op.TableAct) (experiment.Step, error) {
	name, err := op.FreeTableName(p.host, p.ns, p.run)
	if err != nil {
		return experiment.Step{}, err
	}
	do := op.NewTable(p.host, p.ns, name+suffix, m, act)
	if err := op.CheckNft(do); err != nil {
		return experiment.Step{}, err
	}
	return experiment.Step{Do: do, Undo: do.Gone()}, nil
}

// canNetem gives experiment.ErrUnsupported where this kernel lacks what netem
// needs here.
func (p *planner) canNetem() error {
	if err := op.CanNetem(p.host); err != nil {
		return err
	}
	errs := []error{op.CheckNetem(p.config)}
	if p.match.Egress && !p.match.Everything() {
		errs = append(errs, op.CanPrio(p.host))
	}
	if p.match.Ingress {
		errs = append(errs, op.CanIfb(p.host))
	}
	if p.config.Burst > 0 {
		errs = append(errs, op.CanTbf(p.host))
	}
	return errors.Join(errs...)
}

// byNetem puts netem on the links, and behind ifb links for what comes in.
func (p *planner) byNetem() ([]experiment.Step, error) {
	var steps []experiment.Step
	if p.match.Egress {
		out, err := p.netemEgress()
		if err != nil {
			return nil, err
		}
		steps = out
	}
	if p.match.Ingress {
		in, err := p.netemIngress()
		if err != nil {
			return nil, err
		}
		steps = append(steps, in...)
	}
	return steps, nil
}

// netemEgress puts netem at the root of each link; with a filter, in a band
// that an nft table classifies into.
func (p *planner) netemEgress() ([]experiment.Step, error) {
	m := p.match
	m.Ingress = false
	banded, handle := !m.Everything(), op.HandleOf(p.run, 0)
	var steps []experiment.Step
	for _, link := range m.Links {
		step, err := op.PlanQdisc(p.host, op.QdiscPlan{
			Net: p.ns, Link: link, Handle: handle, Banded: banded, Impair: p.config,
			Replace: p.OnExisting == "replace", Notes: m.Notes,
		})
		if err != nil {
			return nil, err
		}
		steps = append(steps, step)
	}
	if !banded {
		return steps, nil
	}
	class := steps[0].Do.(*op.Qdisc).Priority()
	table, err := p.table(m, "", op.TableAct{Kind: op.ActPrio, Class: class})
	return append(steps, table), err
}

// netemIngress redirects what comes in through an ifb link with netem.
func (p *planner) netemIngress() ([]experiment.Step, error) {
	m := p.match
	m.Egress = false
	var steps []experiment.Step
	act := op.TableAct{Kind: op.ActFwd}
	for i, link := range m.Links {
		ifb, err := op.PlanLink(p.host, p.ns, p.run, i)
		if err != nil {
			return nil, err
		}
		steps = append(steps, ifb)
		made := ifb.Do.(*op.Link).Link
		netem, err := op.PlanQdisc(p.host, op.QdiscPlan{
			Net: p.ns, Link: made, Handle: op.HandleOf(p.run, 0), Impair: p.config, New: true,
		})
		if err != nil {
			return nil, err
		}
		steps = append(steps, netem)
		act.Forwards = append(act.Forwards, op.Forward{Link: link.Index, Ingress: made})
	}
	table, err := p.table(m, op.IngressSuffix, act)
	return append(steps, table), err
}

// byQueue holds packets in user space.
func (p *planner) byQueue() ([]experiment.Step, error) {
	limit := int(p.Limit)
	if limit == 0 {
		limit = defaultLimit
	}
	number, err := op.FreeQueueNumber(p.host, p.ns, p.run)
	if err != nil {
		return nil, err
	}
	if number > 0 { // each would take what the other sends on for new
		return nil, fmt.Errorf("a queue of this run holds packets of this target already: combine what is to become of them in one action: %w", experiment.ErrBusy)
	}
	do := op.NewQueue(p.host, p.ns, p.run, number, p.match, p.config, limit, seedOf(p.run))
	if err := op.CheckQueue(do); err != nil {
		return nil, fmt.Errorf("backend queue: %w", err)
	}
	return []experiment.Step{{Do: do, Undo: do.Gone()}}, nil
}

// seedOf is what chances are drawn with: the same for each plan of a run.
func seedOf(run experiment.RunID) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(run))
	return h.Sum64()
}
