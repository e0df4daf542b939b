// Command latency measures how well faults of the network do what they say:
// Simian's backends, tc's netem and Toxiproxy, in one run and in random order,
// so that whatever else the machine does hits all of them. It follows Becker et
// al., Network Emulation in Large-Scale Virtual Edge Testbeds, IC2E 2022.
//
//	make bench-latency
//	latency -simian bin/simian -o host.json           measure on this machine
//	latency -quick -only delay,tcp -v                 a trial
//	latency -report host.json,vm.json -to docs/accuracy.md
//
// Measuring needs root. It happens in two network namespaces of its own.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "latency: "+err.Error())
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	simian     string // the binary under test
	tools      tools
	congestion string
	quick      bool
	rounds     int // 0: as many as the plan has
	parts      []string
	only       []string // backends
	verbose    bool
	out        string // "" is standard output
	dir        string // for files, gone afterwards

	report []string // results to make a page from, in place of measuring
	to     string   // the page
	pack   string   // the folder to pack tools into, in place of measuring
	hold   bool     // be a target
	proxy  int      // be a proxy with this latency in ms; -1: no
}

// parts are what can be measured, in this order.
var parts = []string{"delay", "loss", "jitter", "tcp", "udp", "filter", "start"}

func (o options) wants(part string) bool { return len(o.parts) == 0 || slices.Contains(o.parts, part) }

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("latency", flag.ContinueOnError)
	list := func(into *[]string) func(string) error {
		return func(s string) error { *into = strings.Split(s, ","); return nil }
	}
	f.StringVar(&o.simian, "simian", "bin/simian", "the `binary` under test")
	f.StringVar(&o.tools.dir, "tools", "", "use tc of this `folder`, which -pack has made")
	f.StringVar(&o.congestion, "congestion", "cubic", "TCP's congestion control: the default of most kernels")
	f.BoolVar(&o.quick, "quick", false, "a trial: a fraction of all")
	f.IntVar(&o.rounds, "rounds", 0, "how often delays, rates and filters are measured")
	f.Func("only", "measure these `parts` alone: "+strings.Join(parts, ","), list(&o.parts))
	f.Func("backends", "measure these `backends` alone, such as 'simian queue,tc'", list(&o.only))
	f.BoolVar(&o.verbose, "v", false, "say what is being measured")
	f.StringVar(&o.out, "o", "", "write results to this `file`; standard output if left out")
	f.Func("report", "measure nothing; write the page from these `files`", list(&o.report))
	f.StringVar(&o.to, "to", "docs/accuracy.md", "the `page`; its plot is beside it, as .svg")
	f.StringVar(&o.pack, "pack", "", "measure nothing; copy tc and what it needs into this `folder`")
	f.BoolVar(&o.hold, "hold", false, "only wait for the end of standard input (for its own use)")
	f.IntVar(&o.proxy, "toxiproxy", -1, "be Toxiproxy with this latency in `ms` (for its own use)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	for _, part := range o.parts {
		if !slices.Contains(parts, part) {
			return o, fmt.Errorf("-only %s: parts are %s", part, strings.Join(parts, ", "))
		}
	}
	if f.NArg() > 0 || o.rounds < 0 {
		return o, errors.New("want -rounds above 0, and no other arguments")
	}
	for _, path := range []*string{&o.simian, &o.tools.dir} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return o, err
		}
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	switch {
	case err != nil:
		return err
	case o.hold:
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	case o.proxy >= 0:
		return serveToxiproxy(time.Duration(o.proxy)*ms, os.Stdin, os.Stdout)
	case o.pack != "":
		return pack(o.pack)
	case o.report != nil:
		return writePage(o.report, o.to)
	}
	return measure(ctx, o)
}

func measure(ctx context.Context, o options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("making network namespaces needs root")
	}
	if o.dir, err = os.MkdirTemp("", "simian-latency-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	l, err := newLab()
	if err != nil {
		return err
	}
	b := &bench{options: o, lab: l, plan: whole(machine("").Emulated)}
	if o.quick {
		b.plan = quick(b.plan)
	}
	if o.rounds > 0 {
		b.plan.rounds, b.plan.few = o.rounds, o.rounds
	}
	err = b.run(ctx)
	if b.results.busy() {
		fmt.Fprintln(os.Stderr, "latency: this machine was busy: load "+b.results.Machine.LoadBefore)
	}
	if err := errors.Join(err, l.close()); err != nil {
		return err
	}
	return b.results.write(o.out)
}

func (r *Results) write(path string) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if path == "" {
		_, err := os.Stdout.Write(append(body, '\n'))
		return err
	}
	return os.WriteFile(path, append(body, '\n'), 0o644)
}
