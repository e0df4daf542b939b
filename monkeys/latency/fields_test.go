package latency

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v3"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/impair"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

const ms = time.Millisecond

func lossOf(percent, correlation float64) impair.Config {
	return impair.Config{Loss: impair.Loss{Chance: impair.Chance{Percent: percent, Correlation: correlation}}}
}

func statesOf(s impair.States) impair.Config { return impair.Config{Loss: impair.Loss{States: &s}} }

func gilbertOf(g impair.Gilbert) impair.Config { return impair.Config{Loss: impair.Loss{Gilbert: &g}} }

// written are faults as files have them, in both forms, and what they mean.
var written = map[string]impair.Config{
	"delay: 1m30s":            {Delay: 90 * time.Second},
	"delay: 20ms, jitter: 0s": {Delay: 20 * ms},
	"delay: 20ms, jitter: 5ms, correlation: 25, distribution: paretonormal": {Delay: 20 * ms, Jitter: 5 * ms, Correlation: 25, Distribution: impair.ParetoNormal},

	"loss: 0.5":                                                   lossOf(.5, 0),
	"loss: 1e1":                                                   lossOf(10, 0),
	"loss: {percent: 5}":                                          lossOf(5, 0),
	"loss: {percent: 5, correlation: 25}":                         lossOf(5, 25),
	"loss: {states: {p13: 10}}":                                   statesOf(impair.States{P13: 10, P31: 90, P23: 100}),
	"loss: {states: {p14: 1}}":                                    statesOf(impair.States{P14: 1, P31: 100, P23: 100}),
	"loss: {states: {p13: 5, p31: 20}}":                           statesOf(impair.States{P13: 5, P31: 20, P23: 100}),
	"loss: {gilbert: {p: 1}}":                                     gilbertOf(impair.Gilbert{P: 1, R: 99, Bad: 100}),
	"loss: {gilbert: {p: 1, r: 0}}":                               gilbertOf(impair.Gilbert{P: 1, Bad: 100}),
	"loss: {gilbert: {p: 1, bad: 0, good: 2}}":                    gilbertOf(impair.Gilbert{P: 1, R: 99, Good: 2}),
	"loss: {gilbert: {good: 2}}":                                  gilbertOf(impair.Gilbert{R: 100, Bad: 100, Good: 2}),
	"loss: {states: {p13: 1, p31: 20, p32: 30, p23: 40, p14: 5}}": statesOf(impair.States{P13: 1, P31: 20, P32: 30, P23: 40, P14: 5}),
	"loss: {gilbert: {p: 1, r: 20, bad: 90, good: 3}}":            gilbertOf(impair.Gilbert{P: 1, R: 20, Bad: 90, Good: 3}),

	"duplicate: 100": {Duplicate: impair.Chance{Percent: 100}},
	"duplicate: {percent: 1, correlation: 50}": {Duplicate: impair.Chance{Percent: 1, Correlation: 50}},
	"corrupt: 0.01":           {Corrupt: impair.Chance{Percent: .01}},
	"corrupt: {percent: 1}":   {Corrupt: impair.Chance{Percent: 1}},
	"delay: 1ms, reorder: 25": {Delay: ms, Reorder: impair.Chance{Percent: 25}},
	"delay: 1ms, reorder: {percent: 25, correlation: 50, gap: 5}": {Delay: ms, Reorder: impair.Chance{Percent: 25, Correlation: 50}, Gap: 5},

	"rate: 10mbit":          {Rate: 1e7},
	"rate: {rate: 1.5gbit}": {Rate: 1.5e9},
	"rate: {rate: 10mbit, burst: 32KiB, overhead: -4}": {Rate: 1e7, Burst: 32768, Overhead: -4},
}

func TestFieldsRead(t *testing.T) {
	t.Parallel()
	for fields, want := range written {
		f := read(t, fields)
		if diff := cmp.Diff(want, f.config()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", fields, diff)
		}
	}
}

func read(t testing.TB, fields string) *Fault {
	t.Helper()
	return readFault(t, loader(op.NewHost(proc.Host()), new([]experiment.Target)), fields)
}

// refused are faults that make no sense, and what is said of them.
var refused = map[string]string{
	"":                                 "say what becomes of the packets",
	"direction: both":                  "say what becomes of the packets",
	"delay: -1ms":                      "-1ms is negative",
	"delay: 5":                         "delay",
	"delay: 6m":                        "6m0s is longer than 5m0s",
	"jitter: 1ms":                      "fault.jitter: latency: jitter is around a delay",
	"delay: 1ms, jitter: 2ms":          "2ms is more than the delay of 1ms",
	"delay: 2ms, distribution: normal": "fault.distribution: latency: is of the jitter",
	"delay: 2ms, correlation: 5":       "fault.correlation: latency: is of the jitter",
	"delay: 2ms, jitter: 1ms, distribution: poisson": `unknown distribution "poisson"`,
	"delay: 2ms, jitter: 1ms, correlation: 101":      "101 is not a percentage",

	"loss: 101":                            "101 is not a percentage",
	"loss: -1":                             "-1 is not a percentage",
	"loss: 0":                              "0 % never happens",
	"loss: '5'":                            "want a percentage",
	"loss: [5]":                            "want a percentage",
	"loss: {}":                             "0 % never happens",
	"loss: {correlation: 5}":               "0 % never happens",
	"loss: {percent: 5, correlation: 101}": "101 is not a percentage",
	"loss: {percent: 5, gilbert: {p: 1}}":  "want one model",
	"loss: {states: {p13: 1}, gilbert: {p: 1}}":  "want one model",
	"loss: {correlation: 1, states: {p13: 1}}":   "want one model",
	"loss: {percentage: 5}":                      "percentage",
	"loss: {states: {p12: 5}}":                   "p12",
	"loss: {states: {}}":                         "never loses a packet: say p13 or p14",
	"loss: {states: {p31: 5}}":                   "never loses a packet",
	"loss: {states: {p13: 60, p14: 50}}":         "p13 and p14",
	"loss: {states: {p13: 1, p31: 60, p32: 50}}": "p31 and p32",
	"loss: {states: {p13: 1, p32: 50}}":          "a burst would never end",
	"loss: {states: {p13: 101}}":                 "101 is not a percentage",
	"loss: {gilbert: {}}":                        "never leaves the good state",
	"loss: {gilbert: {p: 1, bad: 0}}":            "never loses a packet, in neither state",
	"loss: {gilbert: {p: 1, r: 101}}":            "101 is not a percentage",

	"duplicate: 0":              "fault.duplicate: latency: 0 % never happens",
	"corrupt: {correlation: 1}": "fault.corrupt: latency: 0 % never happens",
	"duplicate: true":           "want a percentage",
	"reorder: 5":                "packets overtake those that are delayed",
	"delay: 1ms, reorder: 0":    "want a percent above 0",
	"delay: 1ms, reorder: {percent: 5, gap: -1}":      "a gap of 1 to 1000000",
	"delay: 1ms, reorder: {percent: 5, gap: 1e7}":     "gap",
	"delay: 1ms, reorder: {percent: 5, gap: 2000000}": "a gap of 1 to 1000000",
	"delay: 1ms, reorder: {percent: 5, every: 5}":     "every",
	"rate: 5":                              "want a bit rate such as 10mbit",
	"rate: {}":                             "a rate is missing",
	"rate: {burst: 1KiB}":                  "a rate is missing",
	"rate: {rate: 10mbit, overhead: 1501}": "1501 is no overhead",
	"rate: {rate: 10mbit, burst: 2GiB}":    "2GiB is more than a burst can be",
	"rate: {rate: 10mbit, peak: 20mbit}":   "peak",

	"delay: 1ms, backend: tc":                         `unknown backend "tc"`,
	"delay: 1ms, onExisting: force":                   `unknown word "force"`,
	"delay: 1ms, onExisting: replace, backend: queue": "the queue leaves a link's qdisc alone",
	"delay: 1ms, limit: 1KiB":                         "1KiB holds next to nothing",
	"delay: 1ms, limit: 1024TiB":                      "limit",
	"delay: 1ms, direction: out":                      "direction", // the filter's own are asked for too
	"delay: 1ms, ports: 70000":                        "70000",
	"delay: 1ms, percent: 0":                          "0 is no flow at all",
	"delay: 1ms, exclude: {}":                         "excludes nothing",
	"delay: 1ms, allowSelf: true":                     "goes with allowHost",
}

func TestFieldsRefused(t *testing.T) {
	t.Parallel()
	l := loader(op.NewHost(proc.Host()), new([]experiment.Target))
	for fields, want := range refused {
		for range 3 { // the same each time
			_, err := l.Load("test.yaml", document(fields), nil)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", fields, err, want)
			}
		}
	}
}

// TestSchema holds the schema against what is read: a number, or fields.
func TestSchema(t *testing.T) {
	t.Parallel()
	l := loader(op.NewHost(proc.Host()), new([]experiment.Target))
	raw, err := l.Schema()
	must(t, err)
	var s jsonschema.Schema
	must(t, json.Unmarshal(raw, &s))
	resolved, err := s.Resolve(nil)
	must(t, err)
	for _, c := range forms {
		fields := forced(c.backend, c.fields)
		read(t, fields)
		accepts(t, resolved, fields)
	}
	for fields := range written {
		accepts(t, resolved, fields)
	}
}

func accepts(t testing.TB, s *jsonschema.Resolved, fields string) {
	t.Helper()
	var file, v any
	must(t, yaml.Unmarshal(document(fields), &file))
	raw, err := json.Marshal(file)
	must(t, err)
	must(t, json.Unmarshal(raw, &v))
	if err := s.Validate(v); err != nil {
		t.Errorf("the schema refuses %s: %v", fields, err)
	}
}

// FuzzFault reads any fields: what is taken means something that both backends
// can be asked for.
func FuzzFault(f *testing.F) {
	for fields := range written {
		f.Add(fields)
	}
	for fields := range refused {
		f.Add(fields)
	}
	for _, form := range forms {
		f.Add(forced(form.backend, form.fields))
	}
	l := loader(op.NewHost(proc.Host()), new([]experiment.Target))
	f.Fuzz(func(t *testing.T, fields string) {
		e, err := l.Load("fuzz.yaml", document(fields), nil)
		if err != nil || len(e.Spec.Method) != 1 {
			return
		}
		fault, ok := e.Spec.Method[0].Fault.(*Fault)
		if !ok {
			return
		}
		c := fault.config()
		if err := sane(c); err != nil {
			t.Errorf("%q became %+v: %v", fields, c, err)
		}
		if c.String() == "nothing" || strings.Contains(c.String(), "\n") {
			t.Errorf("%q is told as %q", fields, c)
		}
		_ = op.CheckNetem(c) // it may refuse
		model := impair.New(c, rand.NewPCG(1, 2))
		for now := range int64(50) {
			if fate := model.Packet(now*1e6, 1500); !fate.Lost && fate.Due < now*1e6 {
				t.Errorf("%q: a packet of %d goes at %d", fields, now*1e6, fate.Due)
			}
		}
	})
}

// sane says what can't be of what was validated.
func sane(c impair.Config) error {
	percents := map[string]float64{
		"correlation": c.Correlation, "loss": c.Loss.Percent, "loss' correlation": c.Loss.Correlation,
		"duplicate": c.Duplicate.Percent, "corrupt": c.Corrupt.Percent, "reorder": c.Reorder.Percent,
		"expected loss": c.Loss.Expected() * 100,
	}
	if s := c.Loss.States; s != nil {
		percents["p13+p14"], percents["p31+p32"], percents["p23"] = s.P13+s.P14, s.P31+s.P32, s.P23
	}
	if g := c.Loss.Gilbert; g != nil {
		percents["p"], percents["r"], percents["bad"], percents["good"] = g.P, g.R, g.Bad, g.Good
	}
	for name, p := range percents {
		if !(p >= 0 && p <= 100+1e-9) {
			return fmt.Errorf("%s is %v", name, p)
		}
	}
	switch {
	case c == impair.Config{}:
		return fmt.Errorf("it does nothing")
	case c.Delay < 0 || c.Delay > longestDelay || c.Jitter < 0 || c.Jitter > c.Delay:
		return fmt.Errorf("delay %s, jitter %s", c.Delay, c.Jitter)
	case c.Rate < 0 || math.IsNaN(c.Rate) || c.Rate > 1e12 || c.Burst < 0 || c.Burst > mostBurst || c.Gap < 0 || c.Gap > mostGap:
		return fmt.Errorf("rate %v, burst %d, gap %d", c.Rate, c.Burst, c.Gap)
	}
	return nil
}
