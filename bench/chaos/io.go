package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/simianhq/simian/internal/box"
)

// ioRow is one rate of one direction; of stress-ng, as fast as it goes.
type ioRow struct {
	do    string  // write, read
	asked float64 // MiB/s; 0 for stress-ng
	got   float64
	cpus  float64
}

func (b *bench) io(ctx context.Context) error {
	for _, do := range []string{"write", "read"} {
		for _, rate := range []float64{1, 4, 16} {
			if err := b.simianIO(ctx, ioRow{do: do, asked: rate}); err != nil {
				return fmt.Errorf("%s %v MiB/s: %w", do, rate, err)
			}
		}
		if err := b.stressIO(ctx, ioRow{do: do}); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) simianIO(ctx context.Context, row ioRow) error {
	f, err := b.lab.apply(ctx, "web", fmt.Sprintf("{type: burn.io, path: /data, do: %s, bytesPerSecond: %vMiB}", row.do, row.asked))
	if err != nil {
		return err
	}
	l, err := b.watchFault(ctx, f, b.brief())
	b.noteIO(row, l)
	return errors.Join(err, f.undo(ctx))
}

func (b *bench) noteIO(row ioRow, l look) {
	row.cpus, row.got = l.cpus, l.written
	if row.do == "read" {
		row.got = l.read
	}
	b.say("%s, %v MiB/s asked for: %.2f", row.do, row.asked, row.got)
	b.results.io = append(b.results.io, row)
}

// stressIO has stress-ng do what it does: it knows no rate.
func (b *bench) stressIO(ctx context.Context, row ioRow) error {
	if b.stress == nil {
		return nil
	}
	how := map[string]string{"write": "direct,wr-seq", "read": "direct,rd-seq"}[row.do]
	s, err := b.stress.start(box.Limits{}, "--hdd", "1", "--hdd-bytes", "64M", "--hdd-write-size", "64K", "--hdd-opts", how)
	if err != nil {
		return err
	}
	l, err := b.watchStress(ctx, s, b.brief())
	b.noteIO(row, *l)
	return err
}
