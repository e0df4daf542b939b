package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/box"
)

// memoryRow is one share of a limit of 256 MiB.
type memoryRow struct {
	percent, asked         float64  // of the limit; MiB
	simian                 float64  // MiB that the cgroup counts more than before
	stress                 *float64 // the same of stress-ng
	helper                 float64  // MiB that the helper's own cgroup, below it, counts
	simianCPUs, stressCPUs float64  // what it takes to hold it
}

const memoryLimit = 256 // MiB

func (b *bench) memory(ctx context.Context) error {
	for _, percent := range []float64{25, 50, 75} {
		row := memoryRow{percent: percent, asked: memoryLimit * percent / 100}
		if err := errors.Join(b.simianMemory(ctx, &row), b.stressMemory(ctx, &row)); err != nil {
			return err
		}
		b.say("%v %% of %d MiB: %.2f MiB", percent, memoryLimit, row.simian)
		b.results.memory = append(b.results.memory, row)
	}
	return nil
}

func (b *bench) simianMemory(ctx context.Context, row *memoryRow) error {
	section := fmt.Sprintf("{type: burn.memory, percent: %v}", row.percent)
	a, err := b.lab.action("memory", section)
	if err != nil {
		return err
	}
	target, err := b.lab.target(ctx, a)
	if err != nil {
		return err
	}
	dir := memoryOf(target.Cgroup)
	before := b.steady(dir)
	f, err := b.lab.apply(ctx, "memory", section)
	if err != nil {
		return err
	}
	l, err := b.watchFault(ctx, f, b.brief())
	row.simian, row.simianCPUs = b.steady(dir)-before, l.cpus
	row.helper = b.steady(experiment.CgroupDir{Path: f.helperIn(dir.Path)})
	return errors.Join(err, f.undo(ctx))
}

// memoryOf is where memory counts.
func memoryOf(c experiment.Cgroup) experiment.CgroupDir {
	if dir := c.V1["memory"]; dir.Path != "" {
		return dir
	}
	return c.V2
}

// brief is how long to look at what does not change.
func (b *bench) brief() time.Duration { return min(b.long, 5*time.Second) }

func (b *bench) mib(dir experiment.CgroupDir) float64 {
	return float64(b.fs.MemoryUse(dir)) / (1 << 20)
}

// steady is the median of what a cgroup counts in a second.
func (b *bench) steady(dir experiment.CgroupDir) float64 {
	var seen []float64
	for range 20 {
		seen = append(seen, b.mib(dir))
		time.Sleep(50 * time.Millisecond)
	}
	return median(seen)
}

func (b *bench) stressMemory(ctx context.Context, row *memoryRow) error {
	if b.stress == nil {
		return nil
	}
	s, err := b.stress.start(box.Limits{MemoryBytes: memoryLimit << 20},
		"--vm", "1", "--vm-bytes", fmt.Sprintf("%dM", int(row.asked)), "--vm-keep")
	if err != nil {
		return err
	}
	if err := wait(ctx, settle); err != nil {
		return errors.Join(err, s.stop())
	}
	dir := memoryOf(s.cgroup())
	l, err := watch(ctx, b.brief(), s.pids(), func() {})
	held := b.steady(dir)
	row.stress, row.stressCPUs = &held, l.cpus
	return errors.Join(err, s.stop())
}
