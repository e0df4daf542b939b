// Command chaos measures how exact the Chaos Monkey's faults of resources are,
// beside stress-ng in the same run, and how long each fault takes to be in
// force and to be taken back. It writes docs/chaos-figures.md.
//
//	make bench-chaos
//	go run ./bench/chaos -only times -n 5 -to /dev/stdout
//
// The faults are those of the catalogue, planned from a section as a file has
// it and applied by their own ops; what they break are containers of a lab of
// its own. Figures are of this machine and of what else it did meanwhile. Needs
// root.
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

	_ "github.com/simianhq/simian/internal/stage" // this binary is the helpers, too
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos: "+err.Error())
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	to     string        // the page
	rounds int           // of each fault, in part times
	long   time.Duration // one look at a load
	only   []string
}

// parts are what can be measured, in this order.
var parts = []string{"cpu", "memory", "io", "times"}

func (o options) wants(part string) bool { return len(o.only) == 0 || slices.Contains(o.only, part) }

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.StringVar(&o.to, "to", "docs/chaos-figures.md", "the `page` to write")
	f.IntVar(&o.rounds, "n", 20, "how often each fault is put in force and taken back")
	f.DurationVar(&o.long, "for", 10*time.Second, "how long each load is looked at")
	only := f.String("only", "", "measure these `parts` alone: "+strings.Join(parts, ","))
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
	if f.NArg() > 0 || o.rounds < 1 || o.long < time.Second {
		return o, errors.New("want -n above 0, -for of a second or more, and no other arguments")
	}
	return o, nil
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
	return os.WriteFile(o.to, []byte(b.page()), 0o644)
}
