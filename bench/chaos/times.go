package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/monkeys"
)

// group tells which goal a fault has.
type group int

const (
	quick    group = iota // 5 ms
	burns                 // none: burn and fill
	bigFill               // 50 ms
	restarts              // none: a container is started again
)

// timesRow is one fault as it is put in force and taken back.
type timesRow struct {
	name, section string
	group         group
	rounds        int // 0: as many as asked for

	plan, force, back []float64 // ms
	irreversible      bool
	what              string // what the last Verify read
	why               string // it could not be measured
}

// faults are all that can be on a container of a lab.
func faults() []*timesRow {
	return []*timesRow{
		{name: "kill, one process by name", section: "{type: kill, process: child}"},
		{name: "freeze, cgroup", section: "{type: freeze}"},
		{name: "freeze, signal", section: "{type: freeze, backend: signal}"},
		{name: "throttle cpus", section: "{type: throttle, cpus: 0.2}"},
		{name: "throttle cpuset", section: `{type: throttle, cpuset: "0"}`},
		{name: "throttle memory", section: "{type: throttle, memory: 48MiB}"},
		{name: "throttle io", section: "{type: throttle, io: [{path: /data, writeBytes: 1MiB}]}"},
		{name: "throttle pids", section: "{type: throttle, pids: 32}"},
		{name: "throttle, a device denied", section: "{type: throttle, denyDevices: [{device: /dev/null}]}"},
		{name: "partition, drop", section: "{type: partition}"},
		{name: "partition, drop, to one service", section: "{type: partition, to: {type: native, service: peer}}"},
		{name: "partition, routes blackhole", section: "{type: partition, to: {type: native, service: peer}, how: blackhole}"},
		{name: "dns, drop", section: "{type: dns}"},
		{name: "dns, nxdomain", section: "{type: dns, how: nxdomain}"},
		{name: "http, status", section: "{type: http, port: 7002, status: 503}"},
		{name: "detach, cover", section: "{type: detach, mount: /scratch}"},
		{name: "detach, unmount", section: "{type: detach, mount: /scratch, how: unmount}"},
		{name: "exhaust files", section: "{type: exhaust, what: files, leave: 16}"},
		{name: "exhaust pids", section: "{type: exhaust, what: pids, leave: 6}"},
		{name: "exhaust connections, 100", section: "{type: exhaust, what: connections, port: 7001, count: 100}"},
		{name: "exhaust ports", section: "{type: exhaust, what: ports}"},
		{name: "clock, time of day", section: "{type: clock, offset: -24h}"},
		{name: "exec inside, a static program", section: "{type: exec, command: [/subject, mark, /scratch/mark], undo: [/subject, unmark, /scratch/mark]}"},
		{name: "burn.cpu", section: "{type: burn.cpu, load: 50}", group: burns},
		{name: "burn.memory, 24 MiB", section: "{type: burn.memory, size: 24MiB}", group: burns},
		{name: "burn.io, 4 MiB/s", section: "{type: burn.io, path: /data, bytesPerSecond: 4MiB}", group: burns},
		{name: "fill, 1 MiB", section: "{type: fill, path: /data, bytes: 1MiB}", group: burns},
		{name: "fill, 1 MiB of a tmpfs", section: "{type: fill, path: /scratch, bytes: 1MiB}", group: burns},
		{name: "fill, BIG", section: "{type: fill, path: /data, bytes: BIG}", group: bigFill, rounds: 10},
		{name: "stop", section: "{type: stop}", group: restarts, rounds: 10},
		{name: "remove", section: "{type: remove}", group: restarts, rounds: 10},
		{name: "capabilities", section: "{type: capabilities, drop: NET_RAW}", group: restarts, rounds: 10},
		{name: "clock, monotonic", section: "{type: clock, offset: +1h, clock: monotonic}", group: restarts, rounds: 10},
		{name: "kill, the container", section: "{type: kill}", group: quick, rounds: 4}, // the wait for the next start doubles each time
	}
}

func (b *bench) times(ctx context.Context) error {
	known := monkeys.Faults(b.fs)
	for _, r := range faults() {
		kind, _, _ := strings.Cut(r.name, " ")
		kind = strings.TrimSuffix(kind, ",")
		if known[kind] == nil {
			b.lack("%s: no such fault in this catalogue", r.name)
			continue
		}
		if r.group == bigFill {
			big := b.big()
			r.name, r.section = strings.ReplaceAll(r.name, "BIG", big), strings.ReplaceAll(r.section, "BIG", big)
		}
		b.results.times = append(b.results.times, r)
		if err := b.timesOf(ctx, r); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.why = strings.Join(strings.Fields(err.Error()), " ")
			b.lack("%s: %s", r.name, r.why)
			continue
		}
		b.say("%s: in force %.2f ms, back %.2f ms; %s", r.name, median(r.force), median(r.back), r.what)
	}
	return nil
}

func (b *bench) timesOf(ctx context.Context, r *timesRow) error {
	n := b.rounds
	if r.rounds > 0 {
		n = min(n, r.rounds)
	}
	for range n {
		f, err := b.retry(ctx, r.section)
		if err != nil {
			return err
		}
		what := f.felt
		back, err := f.back(ctx)
		if err != nil {
			return errors.Join(err, f.undo(ctx))
		}
		r.plan, r.force = append(r.plan, ms(f.plan)), append(r.force, ms(f.force))
		r.irreversible, r.what = f.irreversible(), what
		if !r.irreversible {
			r.back = append(r.back, ms(back))
		}
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// retry applies a fault that may be refused for a moment: a process by this
// name is being started again.
func (b *bench) retry(ctx context.Context, section string) (*applied, error) {
	for end := time.Now().Add(2 * time.Second); ; {
		f, err := b.lab.apply(ctx, "web", section)
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			return f, err
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// big is how much is filled: 10 GiB where 12 are free, or else half.
func (b *bench) big() string {
	var st unix.Statfs_t
	if err := unix.Statfs(b.dir, &st); err != nil {
		return "1GiB"
	}
	free := int64(st.Bavail) * st.Bsize >> 20 // MiB
	if free >= 12<<10 {
		return "10GiB"
	}
	return fmt.Sprintf("%dMiB", max(free/2, 1))
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
