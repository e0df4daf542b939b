package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/box"
)

// flight is several containers launched at once, as measured.
type flight struct {
	up   time.Duration // until the first instruction of the last one
	down time.Duration // of one: until nothing of it is left, also from the launch on; of several: from the word to end on
}

// patience is how long a flight may take.
const patience = 3 * time.Minute

// tool launches containers of the workload.
type tool interface {
	// ready makes what n containers at once need, before the clock starts.
	ready(n int) error
	// launch launches one, the i-th of those at once. The function that comes
	// back waits until it has ended, and nothing of it is left but files.
	launch(ctx context.Context, i int, mode string, io box.Stdio) (wait func() error, err error)
}

// cell is one container of a flight.
type cell struct {
	wait func() error
	at   int64 // its first instruction, on CLOCK_MONOTONIC in ns
	err  error
}

// fly launches n containers at once. One exits by itself; several are told to
// when all are there, by the end of their standard input.
func fly(ctx context.Context, t tool, n int) (flight, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := t.ready(n); err != nil {
		return flight{}, err
	}
	in, word, err := os.Pipe()
	if err != nil {
		return flight{}, err
	}
	defer in.Close()
	defer word.Close()
	mode := hold
	if n == 1 {
		mode = leave
	}
	cells := make([]cell, n)
	began := monotonic()
	each(cells, func(i int, c *cell) { c.err = c.launch(ctx, t, i, mode, in) })
	var f flight
	for i := range cells {
		f.up = max(f.up, time.Duration(cells[i].at-began))
	}
	if n > 1 {
		began = monotonic()
	}
	word.Close()
	each(cells, func(_ int, c *cell) {
		if c.wait != nil {
			c.err = errors.Join(c.err, c.wait())
		}
	})
	f.down = time.Duration(monotonic() - began)
	return f, failures(cells)
}

// each does fn for all cells side by side.
func each(cells []cell, fn func(i int, c *cell)) {
	var all sync.WaitGroup
	for i := range cells {
		all.Go(func() { fn(i, &cells[i]) })
	}
	all.Wait()
}

// launch launches the container, and reads when its first instruction was.
func (c *cell) launch(ctx context.Context, t tool, i int, mode string, in *os.File) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	c.wait, err = t.launch(ctx, i, mode, box.Stdio{In: in, Out: w})
	w.Close()
	if err != nil {
		return fmt.Errorf("launch: %w", err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = r.SetReadDeadline(deadline)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		return fmt.Errorf("wait for its first instruction: %w", err)
	}
	c.at, err = strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	return err
}

// failures returns the first error of a flight, and how many there were.
func failures(cells []cell) error {
	var first error
	n := 0
	for i := range cells {
		if err := cells[i].err; err != nil {
			n++
			if first == nil {
				first = err
			}
		}
	}
	if first == nil {
		return nil
	}
	return fmt.Errorf("%d of %d failed: %w", n, len(cells), first)
}

// monotonic is CLOCK_MONOTONIC in nanoseconds, which containers share.
func monotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return now.Nano()
}
