// Command launch measures how long it takes Simian to launch containers, in
// one run and round by round with crun, runc, bwrap and docker run, so that
// whatever else the machine does hits all of them.
//
//	make bench-launch
//	go run ./bench/launch -simian bin/simian -rounds 100
//	go run ./bench/launch -only memory,kill -o json
//
// Every exit code is checked: a container that failed is no quick one, and
// ends the benchmark. A tool that is not installed is listed as not there.
// Figures are of this machine and of what else it did meanwhile; compare what
// stands in one table. Needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

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
		fmt.Fprintln(os.Stderr, "launch: "+err.Error())
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	simian string // the binary under test
	shop   string // examples/shop, built
	rounds int    // with one container; fewer with 10 and with 100
	only   []string
	json   bool
}

// parts are what can be measured, in this order.
var parts = []string{"launch", "memory", "shop", "kill"}

func (o options) wants(part string) bool { return len(o.only) == 0 || slices.Contains(o.only, part) }

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("launch", flag.ContinueOnError)
	f.StringVar(&o.simian, "simian", "bin/simian", "the `binary` under test")
	f.StringVar(&o.shop, "shop", "examples/shop", "the shop's `folder`, with rootfs/ in it (its build.sh makes that)")
	f.IntVar(&o.rounds, "rounds", 60, "how often one container is launched by each")
	only := f.String("only", "", "measure these `parts` alone: "+strings.Join(parts, ","))
	format := f.String("o", "text", "text, or json")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	for _, part := range o.only {
		if !slices.Contains(parts, part) {
			return o, fmt.Errorf("-only %s: parts are %s", part, strings.Join(parts, ", "))
		}
	}
	if f.NArg() > 0 || o.rounds < 1 || *format != "text" && *format != "json" {
		return o, errors.New("want -rounds above 0, -o text or json, and no other arguments")
	}
	o.json = *format == "json"
	for _, path := range []*string{&o.simian, &o.shop} {
		if *path, err = filepath.Abs(*path); err != nil {
			return o, err
		}
	}
	_, err = os.Stat(o.simian)
	return o, err
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("launching containers needs root")
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	err = b.measure(ctx)
	if closed := b.close(); closed != nil {
		err = errors.Join(err, fmt.Errorf("clean up: %w", closed))
	}
	if err != nil {
		return err
	}
	return b.report.print(os.Stdout, o.json)
}
