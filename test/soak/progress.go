package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// progress is a counter on a terminal, and a line now and then otherwise.
type progress struct {
	w        io.Writer
	of       int
	every    int
	began    time.Time
	terminal bool
}

func newProgress(w io.Writer, of int) *progress {
	p := &progress{w: w, of: of, every: 50, began: time.Now()}
	if f, ok := w.(*os.File); ok {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		p.terminal = err == nil
	}
	return p
}

func (p *progress) show(n int, t *tally) {
	line := fmt.Sprintf("%d of %d runs, %d leaks, %s", n, p.of, t.countLeaks(), time.Since(p.began).Round(time.Second))
	switch {
	case p.terminal:
		fmt.Fprintf(p.w, "\r%s ", line)
	case n > 0 && n%p.every == 0:
		fmt.Fprintln(p.w, line)
	}
}

func (p *progress) end(t *tally) {
	p.every = 1
	p.show(p.of, t)
	if p.terminal {
		fmt.Fprintln(p.w)
	}
}
