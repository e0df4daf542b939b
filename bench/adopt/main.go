// Command adopt measures Simian on containers that Docker has started, beside
// pumba and Docker's own command where they are there. It runs beside a Docker
// of its own:
//
//	make bench-adopt
//	sh test/docker/with.sh bin/bench-adopt -only kill
//
// Times are never asserted: the page says which goals are met. Needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
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
		fmt.Fprintln(os.Stderr, "adopt: "+err.Error())
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	simian, pumba string // binaries
	to, pods      string // files: the page, and what TestKubeMany said
	rounds, many  int
	only          string
}

func (o options) wants(part string) bool {
	return o.only == "" || slices.Contains(strings.Split(o.only, ","), part)
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("adopt", flag.ContinueOnError)
	f.StringVar(&o.simian, "simian", "bin/simian", "the `binary` under test")
	f.StringVar(&o.pumba, "pumba", "pumba", "the `binary` to compare with; left out where it is not there")
	f.StringVar(&o.to, "to", "", "write the page to this `file` (standard output)")
	f.StringVar(&o.pods, "pods", "", "the `file` with the output of TestKubeMany")
	f.IntVar(&o.rounds, "rounds", 20, "how often each is measured")
	f.IntVar(&o.many, "many", 200, "how many containers are listed")
	f.StringVar(&o.only, "only", "", "some of kill,crash,inventory, separated by commas")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 || o.rounds < 1 || o.many < 1 {
		return o, errors.New("takes no arguments; -rounds and -many are at least 1")
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if os.Getenv("SIMIAN_DOCKER") != "1" {
		return errors.New("there is no Docker of its own: run it by sh test/docker/with.sh")
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	start := time.Now()
	err = b.measure(ctx)
	b.machine.after, b.machine.took = load(), time.Since(start)
	if err := errors.Join(err, b.close()); err != nil {
		return err
	}
	return b.write()
}

// measure does the parts that are asked for.
func (b *bench) measure(ctx context.Context) error {
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{{"kill", b.kills}, {"crash", b.crashes}, {"inventory", b.inventory}} {
		if !b.wants(part.name) {
			continue
		}
		if err := part.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}
