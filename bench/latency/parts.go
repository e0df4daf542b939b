package main

import (
	"context"
	"fmt"
	"time"
)

// delayTasks are round trips through each delay, and without any: by ICMP where
// packets are delayed, by TCP where connections are.
func (b *bench) delayTasks(round int) []task {
	var tasks []task
	add := func(one backend, kind string, delay time.Duration) {
		tasks = append(tasks, task{backend: one, fault: fault{delay: delay}, do: func(ctx context.Context, by running) error {
			p := pings{to: farAddr, n: b.plan.trips, every: b.plan.every, wait: delay + 500*ms}
			trips, err := b.trip(ctx, kind, by, p)
			b.results.Delays = append(b.results.Delays, Delay{one.name(), kind, millis(delay), round, b.plan.trips, trips})
			return err
		}})
	}
	add(baseline{}, "icmp", 0)
	add(baseline{}, "tcp", 0)
	for _, delay := range b.plan.delays {
		for _, one := range b.having(netem, queue, tc) {
			add(one, "icmp", delay)
		}
		for _, one := range b.having(toxiproxy) {
			add(one, "tcp", delay)
		}
	}
	return tasks
}

func (b *bench) trip(ctx context.Context, kind string, by running, p pings) ([]float64, error) {
	if kind == "tcp" {
		return b.chat(ctx, by, p)
	}
	return b.ping(ctx, p)
}

// lossTasks count packets.
func (b *bench) lossTasks(int) []task {
	var tasks []task
	add := func(one backend, percent float64) {
		tasks = append(tasks, task{backend: one, fault: fault{loss: percent}, do: func(ctx context.Context, _ running) error {
			got, err := b.flow(ctx, flow{n: b.plan.packets, size: 200, every: b.plan.pace, wait: 500 * ms})
			if err == nil {
				b.results.Losses = append(b.results.Losses, Loss{one.name(), percent, got.sent + got.refused, got.lost(), got.again, got.full})
			}
			return err
		}})
	}
	add(baseline{}, 0)
	for _, percent := range b.plan.losses {
		for _, one := range b.having(nft, netem, queue, tc) {
			add(one, percent)
		}
	}
	return tasks
}

// What jitter is measured with: 20 ms leave room for four times as much to
// either side, and more is what no table of netem's has.
const jitterDelay, jitter = 20 * ms, 4 * ms

// jitterTasks measure one-way delays.
func (b *bench) jitterTasks(int) []task {
	var tasks []task
	add := func(one backend, shape string) {
		f := fault{delay: jitterDelay, jitter: jitter, distribution: shape}
		if shape == "" {
			f.jitter = 0
		}
		tasks = append(tasks, task{backend: one, fault: f, do: func(ctx context.Context, _ running) error {
			got, err := b.flow(ctx, flow{n: b.plan.samples, size: 200, every: b.plan.apart, wait: time.Second})
			if err != nil {
				return err
			}
			v := got.arrived()
			if len(v) < 2 {
				return fmt.Errorf("%d of %d packets came", len(v), b.plan.samples)
			}
			b.results.Jitters = append(b.results.Jitters, Jitter{
				one.name(), shape, millis(f.delay), millis(f.jitter),
				got.sent + got.refused, got.received, got.overtook, mean(v), deviation(v), deviationError(v),
			})
			return nil
		}})
	}
	for _, one := range b.having(none, netem, queue, tc) {
		add(one, "")
	}
	for _, shape := range b.plan.shapes {
		for _, one := range b.having(netem, queue, tc) {
			add(one, shape)
		}
	}
	return tasks
}

// least stands for no delay where a fault of nothing is refused.
const least = time.Microsecond

// loads calls add for each backend and delay; without a delay the baseline is
// there as well.
func (b *bench) loads(add func(one backend, delay time.Duration), names ...string) {
	for _, delay := range b.plan.rates {
		for _, one := range b.having(names...) {
			add(one, delay)
		}
	}
	add(baseline{}, 0)
}

func atLeast(one backend, delay time.Duration) fault {
	if delay == 0 && one.name() != toxiproxy {
		delay = least
	}
	return fault{delay: delay}
}

// tcpTasks measure one flow.
func (b *bench) tcpTasks(round int) []task {
	var tasks []task
	b.loads(func(one backend, delay time.Duration) {
		tasks = append(tasks, task{backend: one, fault: atLeast(one, delay), do: func(ctx context.Context, by running) error {
			gbit, again, err := b.rate(ctx, by, bulk{warm: b.plan.warm + 10*delay, length: b.plan.flow, congestion: b.congestion})
			if err == nil {
				b.results.TCP = append(b.results.TCP, TCP{one.name(), millis(delay), round, gbit, again})
			}
			return err
		}})
	}, netem, queue, tc, toxiproxy)
	return tasks
}

// udpTasks send packets of 1200 bytes at a fixed pace.
func (b *bench) udpTasks(round int) []task {
	const size, batch = 1200, 32
	pace := b.plan.offered
	n := int(pace * b.plan.udp.Seconds())
	var tasks []task
	b.loads(func(one backend, delay time.Duration) {
		tasks = append(tasks, task{backend: one, fault: atLeast(one, delay), do: func(ctx context.Context, _ running) error {
			got, err := b.flow(ctx, flow{n: n, size: size, every: time.Duration(1e9 / pace), batch: batch, wait: delay + 500*ms})
			if err == nil {
				b.results.UDP = append(b.results.UDP, UDP{
					one.name(), millis(delay), round, pace, got.seconds,
					got.sent + got.refused, got.received, got.lost(), got.full,
				})
			}
			return err
		}})
	}, netem, queue, tc)
	return tasks
}
