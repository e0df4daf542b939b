package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"time"
)

// starts measures how long it takes until a fault is in force: of Simian, by
// packets that are sent all the time, and of nsenter and tc, which are what
// others start, by how long they run.
func (b *bench) starts(ctx context.Context) error {
	for i := range b.plan.starts {
		for _, one := range shuffled(b.having(netem, queue)) {
			b.say("start %d of %d: %s", i+1, b.plan.starts, one.name())
			if err := b.start(ctx, one.(*simian)); err != nil {
				b.lack(one, "start", err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if err := b.command(ctx); err != nil {
			b.lack(&tcNetem{}, "start", err)
		}
	}
	return nil
}

// start watches a flow while Simian starts: the first packet of those that are late to the
// end was the first to meet the fault.
func (b *bench) start(ctx context.Context, one *simian) error {
	const delay, every = 20 * ms, 250 * time.Microsecond
	flows := make(chan *flown, 1)
	failed := make(chan error, 1)
	length := 600 * ms
	if b.results.Machine.Emulated {
		length = 4 * time.Second
	}
	go func() {
		got, err := b.flow(ctx, flow{n: int(length / every), size: 200, every: every, wait: 200 * ms})
		failed <- err
		flows <- got
	}()
	if err := pause(ctx, 50*ms); err != nil {
		return err
	}
	began := now()
	by, err := one.start(ctx, fault{delay: delay})
	if err := <-failed; err != nil {
		return err
	}
	got := <-flows
	if err != nil {
		return err
	}
	if err := by.stop(); err != nil {
		return err
	}
	r := by.(*simianRun)
	seconds, _ := r.inject()
	seen, err := sinceWhen(got, began, millis(delay)/2)
	if err == nil {
		b.results.Starts = append(b.results.Starts, Start{one.name(), seen, millis(r.said), seconds * 1000})
	}
	return err
}

// sinceWhen returns how long after began the first packet was sent that came
// later than limit and after which none came in time, in milliseconds: one
// that is late by itself has met the scheduler, not the fault.
func sinceWhen(f *flown, began int64, limit float64) (float64, error) {
	first := -1
	for seq, d := range f.delays {
		switch {
		case d == 0: // it didn't come
		case d <= limit:
			first = -1
		case first < 0:
			first = seq
		}
	}
	if first < 0 {
		return 0, fmt.Errorf("the last of %d packets were not late", len(f.delays))
	}
	return float64(f.began[first]-began) / 1e6, nil
}

// command runs what others run. Without netem, the qdisc is pfifo.
func (b *bench) command(ctx context.Context) error {
	kind := []string{"pfifo", "limit", "1000"}
	if len(b.having(tc)) > 0 {
		kind = []string{"netem", "delay", "20ms"}
	}
	args := append([]string{"qdisc", "replace", "dev", link, "root"}, kind...)
	inner := b.tools.tc(args...)
	outer := append([]string{"--net=/proc/" + strconv.Itoa(b.held.Process.Pid) + "/ns/net"}, inner.Args...)
	c := exec.CommandContext(ctx, "nsenter", outer...)
	c.Env = inner.Env
	start := time.Now()
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("nsenter: %w: %s", err, out)
	}
	b.results.Commands = append(b.results.Commands, Duration{"nsenter … tc qdisc replace … " + kind[0], millis(time.Since(start))})
	return (&tcNetem{b.lab, b.tools}).run(nil, "qdisc", "del", "dev", link, "root")
}
