package main

import (
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// options are the flags.
type options struct {
	simian   string // the binary under test
	runs     int
	only     int    // this run alone; 0 for all
	labs     int    // of 100 runs, how many are of labs
	net      int    // and how many of networks
	blow     string // only blows whose name has this in it; "" for all
	seed     uint64
	parallel int
	verbose  bool
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("soak", flag.ContinueOnError)
	f.StringVar(&o.simian, "simian", "bin/simian", "the `binary` under test")
	f.IntVar(&o.runs, "runs", 300, "how many runs are struck")
	f.IntVar(&o.only, "only", 0, "do only the run with this `number`")
	f.IntVar(&o.labs, "labs", 30, "of 100 runs, how `many` are of labs")
	f.IntVar(&o.net, "net", 30, "of 100 runs, how `many` break a network")
	f.StringVar(&o.blow, "blow", "", "only blows that have this `text` in their name")
	f.Uint64Var(&o.seed, "seed", 0, "draw what is done with this seed (a random one)")
	f.IntVar(&o.parallel, "parallel", 2, "how many runs at a time")
	f.BoolVar(&o.verbose, "v", false, "show what was done in each run")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.share(f)
	if f.NArg() > 0 || o.runs < 1 || o.parallel < 1 || o.labs < 0 || o.net < 0 || o.labs+o.net > 100 {
		return o, errors.New("want -runs and -parallel above 0, -labs and -net no more than 100 together, and no other arguments")
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1e9)
	}
	path, err := filepath.Abs(o.simian)
	if err == nil {
		_, err = os.Stat(path)
	}
	o.simian = path
	return o, err
}

// share leaves to networks what labs leave, and the other way round, where only
// one of the two was given.
func (o *options) share(f *flag.FlagSet) {
	given := map[string]bool{}
	f.Visit(func(g *flag.Flag) { given[g.Name] = true })
	if !given["net"] {
		o.net = max(0, min(o.net, 100-o.labs))
	} else if !given["labs"] {
		o.labs = max(0, min(o.labs, 100-o.net))
	}
}
