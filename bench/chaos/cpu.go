package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/simianhq/simian/internal/box"
)

// cpuRow is one load of one quota.
type cpuRow struct {
	quota, load float64 // CPUs, percent of them
	simian      look
	said        *look // stress-ng, with this load
	told        *look // and with the same load reckoned for one that knows no quota
}

// of is percent of the quota.
func (r cpuRow) of(l look) float64 { return 100 * l.cpus / r.quota }

func (b *bench) cpu(ctx context.Context) error {
	for _, quota := range []float64{0.1, 0.5, 1.5} {
		for _, load := range []float64{10, 50, 90} {
			row := cpuRow{quota: quota, load: load}
			if err := b.cpuOf(ctx, &row); err != nil {
				return fmt.Errorf("%v %% of %v CPUs: %w", load, quota, err)
			}
			b.say("%v %% of %v CPUs: %.2f %%", load, quota, row.of(row.simian))
			b.results.cpu = append(b.results.cpu, row)
		}
	}
	return nil
}

func (b *bench) cpuOf(ctx context.Context, row *cpuRow) error {
	f, err := b.lab.apply(ctx, fmt.Sprintf("cpu-%v", row.quota), fmt.Sprintf("{type: burn.cpu, load: %v}", row.load))
	if err != nil {
		return err
	}
	if err := weigh(b.fs, f.target.Cgroup); err != nil {
		return errors.Join(err, f.undo(ctx))
	}
	row.simian, err = b.watchFault(ctx, f, b.long)
	if err := errors.Join(err, f.undo(ctx)); err != nil || b.stress == nil {
		return err
	}
	if row.said, err = b.stressCPU(ctx, row.quota, row.load); err != nil {
		return err
	}
	row.told, err = b.stressCPU(ctx, row.quota, math.Round(row.load*row.quota/math.Ceil(row.quota)))
	return err
}

// stressCPU has stress-ng load a worker for each CPU of a quota, or part of
// one, by so many percent.
func (b *bench) stressCPU(ctx context.Context, quota, load float64) (*look, error) {
	s, err := b.stress.start(box.Limits{CPUs: quota}, "--cpu", fmt.Sprint(math.Ceil(quota)), "--cpu-load", fmt.Sprint(load))
	if err != nil {
		return nil, err
	}
	if err := weigh(b.fs, s.cgroup()); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return b.watchStress(ctx, s, b.long)
}

// watchStress looks at stress-ng, and ends it.
func (b *bench) watchStress(ctx context.Context, s *stressed, long time.Duration) (*look, error) {
	err := wait(ctx, settle)
	var l look
	if err == nil {
		l, err = watch(ctx, long, s.pids(), func() {})
	}
	return &l, errors.Join(err, s.stop())
}
