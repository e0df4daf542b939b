package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// tools finds tc(8): in a folder that -pack has made, or on this machine.
type tools struct{ dir string }

// tc returns a command of it.
func (t tools) tc(args ...string) *exec.Cmd {
	if t.dir == "" {
		return exec.Command("tc", args...)
	}
	args = append([]string{"--library-path", t.dir, filepath.Join(t.dir, "tc")}, args...)
	c := exec.Command(filepath.Join(t.dir, "ld.so"), args...)
	c.Env = append(os.Environ(), "TC_LIB_DIR="+t.dir)
	return c
}

// tcNetem is netem as everybody sets it: by tc.
type tcNetem struct {
	*lab
	tools
}

func (*tcNetem) name() string { return tc }

// start implements backend. netem's queue is as long as no test fills it.
func (t *tcNetem) start(_ context.Context, f fault) (running, error) {
	if len(f.cidrs) > 0 {
		return t.filtered(f)
	}
	args := append([]string{"qdisc", "replace", "dev", link, "root", "netem", "limit", "1000000"}, netemArgs(f)...)
	if err := t.run(nil, args...); err != nil {
		return nil, err
	}
	return tcRun{lab: t}, nil
}

func netemArgs(f fault) []string {
	var args []string
	if f.delay > 0 {
		args = append(args, "delay", micros(f.delay))
		if f.jitter > 0 {
			args = append(args, micros(f.jitter))
		}
		if f.distribution != "" && f.distribution != "uniform" { // which is netem's way without a table
			args = append(args, "distribution", f.distribution)
		}
	}
	if f.loss > 0 {
		args = append(args, "loss", "random", fmt.Sprintf("%g%%", f.loss))
	}
	return args
}

func micros(d time.Duration) string { return fmt.Sprintf("%dus", d.Microseconds()) }

// filtered sends what goes to f.cidrs into a class of its own, by a u32 filter
// for each, as peers do. HTB is on kernels that have no prio, too.
func (t *tcNetem) filtered(f fault) (running, error) {
	var batch bytes.Buffer
	fmt.Fprintf(&batch, "qdisc replace dev %s root handle 1: htb default 1\n", link)
	for class := 1; class <= 2; class++ {
		fmt.Fprintf(&batch, "class add dev %s parent 1: classid 1:%d htb rate 100gbit\n", link, class)
	}
	for i, cidr := range f.cidrs {
		const table = 4000 // a priority has one hash table, of 4095 filters
		fmt.Fprintf(&batch, "filter add dev %s parent 1: protocol ip prio %d u32 match ip dst %s flowid 1:2\n", link, 1+i/table, cidr)
	}
	if f.delay > 0 {
		fmt.Fprintf(&batch, "qdisc add dev %s parent 1:2 netem delay %s\n", link, micros(f.delay))
	}
	err := t.run(&batch, "-batch", "-")
	if err != nil {
		return nil, errors.Join(err, tcRun{lab: t}.stop()) // what was before the line that failed is there
	}
	return tcRun{lab: t}, nil
}

// run runs tc in the target's namespace.
func (t *tcNetem) run(stdin *bytes.Buffer, args ...string) error {
	c := t.tc(args...)
	if stdin != nil {
		c.Stdin = stdin
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := t.target.do(c.Start); err != nil {
		return err
	}
	if err := c.Wait(); err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(out.String()), "\n")
		return unsupported{fmt.Sprintf("tc: %v: %s", err, first)}
	}
	return nil
}

type tcRun struct {
	direct
	lab *tcNetem
}

func (r tcRun) stop() error { return r.lab.run(nil, "qdisc", "del", "dev", link, "root") }
