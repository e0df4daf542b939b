package experiment_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

var update = flag.Bool("update", false, "write what the tests see into testdata")

// golden compares got with a file of testdata, or writes it there.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (-update writes it)", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (- it, + now):\n%s", path, diff)
	}
}

// loader knows sections with fields of every type that a file can hold.
func loader() experiment.Loader {
	return experiment.Loader{
		Faults: experiment.Catalog[experiment.Fault]{
			"freeze":  func() experiment.Fault { return &freeze{} },
			"kill":    func() experiment.Fault { return &kill{} },
			"latency": func() experiment.Fault { return &latency{Clock: time.Now} },
		},
		Targets: experiment.Catalog[experiment.Selector]{
			"process": func() experiment.Selector { return &process{} },
			"any":     func() experiment.Selector { return anything{} },
		},
		Probes: experiment.Catalog[experiment.Probe]{
			"http": func() experiment.Probe { return &httpProbe{Status: 200} },
			"tcp":  func() experiment.Probe { return tcpProbe{} },
		},
	}
}

type unplanned struct{}

func (unplanned) Plan(context.Context, experiment.RunID, experiment.Target) ([]experiment.Step, error) {
	return nil, errors.ErrUnsupported
}

type freeze struct{ unplanned }

type kill struct {
	unplanned
	Signal signal              `json:"signal,omitempty" jsonschema:"the signal sent (KILL)"`
	Every  experiment.Duration `json:"every,omitzero" jsonschema:"sent again at this interval"`
}

func (k *kill) Instant() bool           { return true }
func (k *kill) Interval() time.Duration { return k.Every.D() }

func (k *kill) Validate() error {
	if k.Signal.number < 0 {
		return experiment.Fieldf("signal", "unknown signal")
	}
	return nil
}

// signal is a type that reads itself from text and is no text in Go.
type signal struct{ number int }

func (s *signal) UnmarshalText(b []byte) error {
	number, ok := map[string]int{"KILL": 9, "TERM": 15, "BAD": -1}[string(b)]
	if !ok {
		return errors.New("unknown signal " + string(b))
	}
	s.number = number
	return nil
}

func (s signal) MarshalText() ([]byte, error) {
	if s.number == 15 {
		return []byte("TERM"), nil
	}
	return []byte("KILL"), nil
}

type latency struct {
	unplanned
	packets
	Delay       experiment.Duration `json:"delay,omitzero" jsonschema:"one way, added to each packet"`
	Jitter      experiment.Duration `json:"jitter,omitzero" jsonschema:"how much the delay varies"`
	Distributed string              `json:"distribution,omitempty" jsonschema:"uniform, normal or pareto"`
	Corrupt     experiment.Percent  `json:"corrupt,omitzero" jsonschema:"of the packets"`
	Duplicate   experiment.Percent  `json:"duplicate,omitzero" jsonschema:"of the packets"`
	Loss        *experiment.Percent `json:"loss,omitempty" jsonschema:"of the packets"`
	Correlation float64             `json:"correlation,omitzero" jsonschema:"with the packet before, from 0 to 1"`
	Direction   string              `json:"direction,omitempty" jsonschema:"in, out or both"`
	Backend     string              `json:"backend,omitempty" jsonschema:"netem or queue"`
	Limit       uint32              `json:"limit,omitzero" jsonschema:"packets held at the most"`
	Rate        *experiment.Bitrate `json:"rate,omitempty" jsonschema:"how fast they go"`
	Buffer      experiment.Size     `json:"buffer,omitzero" jsonschema:"bytes held at the most"`
	Seed        *uint64             `json:"seed,omitempty" jsonschema:"of the generator"`
	Exact       bool                `json:"exact,omitzero" jsonschema:"refuse what the kernel would round"`
	Peers       []peer              `json:"peers,omitempty" jsonschema:"to whom"`
	Marks       map[string]int      `json:"marks,omitempty" jsonschema:"by name"`

	Clock func() time.Time `json:"-"` // as a constructor would close over it
}

// packets is embedded, as a filter that several faults share would be.
type packets struct {
	Ports []uint16 `json:"ports,omitempty" jsonschema:"of the other side"`
	Proto string   `json:"protocol,omitempty" jsonschema:"tcp, udp or icmp"`

	To *experiment.TargetSpec `json:"to,omitempty" jsonschema:"only what goes to these"`
}

// Beyond implements experiment.Beyond.
func (p *packets) Beyond() []*experiment.TargetSpec {
	if p.To == nil {
		return nil
	}
	return []*experiment.TargetSpec{p.To}
}

type peer struct {
	Host string `json:"host" jsonschema:"a name or an address"`
	Port int    `json:"port,omitzero" jsonschema:"all where there is none"`
}

func (p peer) Validate() error {
	if p.Port < 0 || p.Port > 65535 {
		return experiment.Fieldf("port", "%d is not a port", p.Port)
	}
	return nil
}

type anything struct{}

func (anything) Select(context.Context) ([]experiment.Target, error) { return nil, nil }

type process struct {
	Name string `json:"name,omitempty" jsonschema:"of the executable"`
	PID  int    `json:"pid,omitzero" jsonschema:"of one process"`
	Port int    `json:"port,omitzero" jsonschema:"that it listens on"`
}

func (p *process) Select(context.Context) ([]experiment.Target, error) { return nil, nil }

func (p *process) Validate() error {
	if *p == (process{}) {
		return errors.New("says nothing of the process: give a name, a pid or a port")
	}
	if p.PID < 0 {
		return experiment.Fieldf("pid", "%d is not a pid", p.PID)
	}
	return nil
}

type httpProbe struct {
	URL     string              `json:"url" jsonschema:"http or https"`
	Status  int                 `json:"status,omitzero" jsonschema:"the status that counts as an answer (200)"`
	Expect  []int               `json:"expect,omitempty" jsonschema:"any of these"`
	Headers map[string]string   `json:"headers,omitempty" jsonschema:"sent with the request"`
	Timeout experiment.Duration `json:"timeout,omitzero" jsonschema:"no answer for so long is none"`
	JSON    string              `json:"json,omitempty" jsonschema:"where in the answer the number stands"`
}

func (p *httpProbe) Measure(context.Context) (float64, error) { return 0, nil }
func (p *httpProbe) Validate() error                          { return experiment.CheckURL("url", p.URL) }

func (p *httpProbe) Unit() string {
	if p.JSON != "" {
		return ""
	}
	return "s"
}

type tcpProbe struct {
	Address string `json:"address" jsonschema:"host:port"`
}

func (tcpProbe) Measure(context.Context) (float64, error) { return 0, nil }
func (tcpProbe) Unit() string                             { return "s" }

// names returns the paths below testdata that match, and that there are some.
func names(t testing.TB, pattern string, not ...string) []string {
	t.Helper()
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		if ok, _ := filepath.Match(pattern, e.Name()); ok && !slices.Contains(not, e.Name()) {
			found = append(found, e.Name())
		}
	}
	if len(found) == 0 {
		t.Fatalf("no file of testdata is like %s", pattern)
	}
	return found
}
