package main

import (
	"context"
	"fmt"
	"os/exec"
)

// most is how many containers are launched at once at the most.
const most = 100

// sizes are how many are launched at once, and how much fewer rounds of it
// there are.
var sizes = []struct{ n, fewer int }{{1, 1}, {10, 5}, {most, 12}}

// contender is what is measured beside others.
type contender struct {
	name  string
	gives string // what a container gets of it
	every int    // takes part in one round of so many
	fly   func(ctx context.Context, n int) (flight, error)
}

// launches has all contenders launch containers, round by round.
func (b *bench) launches(ctx context.Context) error {
	list, err := b.contenders(ctx)
	if err != nil {
		return err
	}
	for _, size := range sizes {
		rounds := max(3, b.rounds/size.fewer)
		b.say("%d at once, %d rounds", size.n, rounds)
		if err := b.interleave(ctx, list, size.n, rounds); err != nil {
			return err
		}
	}
	b.report.judgeLaunches()
	return nil
}

// interleave has all contenders launch n containers at once, again and again.
func (b *bench) interleave(ctx context.Context, list []contender, n, rounds int) error {
	for round := range rounds {
		for k := range list {
			c := list[(round+k)%len(list)] // nobody is always first
			if round%c.every != 0 {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			calm(n)
			f, err := c.fly(ctx, n)
			if err != nil {
				return fmt.Errorf("%s, %d at once: %w", c.name, n, err)
			}
			b.report.add(c, n, f)
		}
	}
	return nil
}

// by makes a contender of a tool.
func by(t tool) func(context.Context, int) (flight, error) {
	return func(ctx context.Context, n int) (flight, error) { return fly(ctx, t, n) }
}

// full is what Docker gives a container, and so do those that say so.
const full = "namespaces, overlay, veth on a bridge, cgroup with limits, 14 capabilities, seccomp, masked paths"

func (b *bench) contenders(ctx context.Context) ([]contender, error) {
	s, err := b.supervisor(ctx)
	if err != nil {
		return nil, err
	}
	list := []contender{
		{ours, full, 1, by(s)},
		{ourLab, full + "; also process start, journal, guardian, logs", 2, b.labs.fly},
		{"the program alone", "fork and execve: nothing of a container", 1, by(b.alone())},
	}
	others, err := b.others(ctx)
	return append(list, others...), err
}

// others are the tools that are there.
func (b *bench) others(ctx context.Context) ([]contender, error) {
	const noNetwork = "the same, but a bind for the overlay, and an empty network"
	var list []contender
	for _, o := range []struct {
		contender
		needs []string
		open  func(path string) (tool, error)
	}{
		{contender{theCrun, noNetwork, 1, nil}, []string{"crun"}, func(path string) (tool, error) { return b.oci("crun", path, true) }},
		{contender{bareCrun, noNetwork + ", and no seccomp", 1, nil}, []string{"crun"}, func(path string) (tool, error) { return b.oci("crun-bare", path, false) }},
		{contender{theRunc, noNetwork, 1, nil}, []string{"runc"}, func(path string) (tool, error) { return b.oci("runc", path, true) }},
		{contender{"bwrap --unshare-all", "namespaces and mounts: no cgroup, no seccomp, no network, no masked paths", 1, nil}, []string{"bwrap"}, func(path string) (tool, error) { return b.bwrap(path), nil }},
		{contender{"docker run --rm", full, 6, nil}, []string{"docker", "dockerd", "containerd"}, func(path string) (tool, error) { return b.docker(ctx, path) }},
	} {
		path, err := locate(o.needs)
		if err != nil {
			b.report.lack(o.contender, err)
			continue
		}
		t, err := o.open(path)
		if err != nil {
			b.report.lack(o.contender, err)
			continue
		}
		o.fly = by(t)
		list = append(list, o.contender)
	}
	return list, nil
}

// locate returns the path of the first of names, all of which must be there.
func locate(names []string) (first string, err error) {
	for i, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", err
		}
		if i == 0 {
			first = path
		}
	}
	return first, nil
}
