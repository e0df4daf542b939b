package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// bench measures all parts on one machine.
type bench struct {
	options
	plan plan
	*lab
	results  Results
	backends []backend
}

// task is one thing to be measured, of one backend.
type task struct {
	backend backend
	fault   fault
	do      func(ctx context.Context, by running) error
}

func (b *bench) run(ctx context.Context) error {
	start := time.Now()
	b.results.Machine = machine(b.congestion)
	b.results.Date, b.results.Rounds = start.UTC().Format(time.DateOnly), b.plan.rounds
	err := b.measure(ctx)
	b.results.Seconds = time.Since(start).Seconds()
	b.results.Machine.LoadAfter = load()
	return err
}

// measure does the parts one after the other, each in rounds.
func (b *bench) measure(ctx context.Context) error {
	if err := b.find(ctx); err != nil {
		return err
	}
	for _, part := range []struct {
		name   string
		rounds int
		tasks  func(round int) []task
	}{
		{"delay", b.plan.rounds, b.delayTasks},
		{"loss", 1, b.lossTasks},
		{"jitter", 1, b.jitterTasks},
		{"tcp", b.plan.rounds, b.tcpTasks},
		{"udp", b.plan.few, b.udpTasks},
		{"filter", b.plan.few, b.filterTasks},
	} {
		if !b.wants(part.name) {
			continue
		}
		for round := range part.rounds {
			if err := b.round(ctx, part.name, shuffled(part.tasks(round))); err != nil {
				return fmt.Errorf("%s: %w", part.name, err)
			}
		}
	}
	if b.wants("start") {
		return b.starts(ctx)
	}
	return nil
}

// find notes which backends there are: each is tried once.
func (b *bench) find(ctx context.Context) error {
	shared := simian{lab: b.lab, binary: b.simian, dir: b.dir}
	for _, s := range []struct {
		name, field string
		trial       fault
	}{{netem, "netem", fault{delay: ms}}, {queue, "queue", fault{delay: ms}}, {nft, "", fault{loss: 1}}} {
		one := shared
		one.called, one.backend = s.name, s.field
		if err := b.try(ctx, &one, s.trial); err != nil {
			return err
		}
	}
	trial := fault{delay: ms}
	return errors.Join(b.try(ctx, baseline{}, trial), b.try(ctx, &tcNetem{b.lab, b.tools}, trial), b.try(ctx, &toxic{b.lab}, trial))
}

func (b *bench) try(ctx context.Context, one backend, trial fault) error {
	if len(b.only) > 0 && one.name() != none && !slices.Contains(b.only, one.name()) {
		b.lack(one, "", errors.New("left out"))
		return nil
	}
	by, err := one.start(ctx, trial)
	if err == nil {
		err = by.stop()
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		b.lack(one, "", err)
	default:
		b.backends = append(b.backends, one)
	}
	return nil
}

// transient are names that differ from run to run: runs, namespaces.
var transient = regexp.MustCompile(`\b\d{6,}\b|\b(simian[-_])[a-z0-9]{6}`)

// lack notes what could not be measured, and why: once, without names that
// mean nothing elsewhere.
func (b *bench) lack(one backend, part string, why error) {
	b.say("%s %s: %v", one.name(), part, why)
	said := strings.Join(strings.Fields(why.Error()), " ")
	if b.dir != "" {
		said = strings.ReplaceAll(said, b.dir, "…")
	}
	m := Missing{one.name(), part, transient.ReplaceAllString(said, "$1…")}
	if !slices.Contains(b.results.Missing, m) {
		b.results.Missing = append(b.results.Missing, m)
	}
}

// having are the backends of these names that are there.
func (b *bench) having(names ...string) []backend {
	return slices.DeleteFunc(slices.Clone(b.backends), func(one backend) bool { return !slices.Contains(names, one.name()) })
}

// round does tasks. What one backend can't do or does wrong is noted, and the
// others go on.
func (b *bench) round(ctx context.Context, part string, tasks []task) error {
	for i, t := range tasks {
		b.say("%s %d of %d: %s", part, i+1, len(tasks), t.backend.name())
		err := t.run(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.lack(t.backend, part, err)
		}
	}
	return nil
}

func (t task) run(ctx context.Context) error {
	by, err := t.backend.start(ctx, t.fault)
	if err != nil {
		return err
	}
	err = t.do(ctx, by)
	return errors.Join(err, by.stop())
}

func (b *bench) say(format string, args ...any) {
	if b.verbose {
		fmt.Fprintf(os.Stderr, "latency: "+format+"\n", args...)
	}
}
