package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// samples makes results as two machines might have measured them: the figures
// are round, so that the page can be checked by eye.
func samples() machines {
	host := &Results{
		Machine: Machine{Kernel: "6.18.1", Processor: "Fast", Processors: 2, Clock: "tsc", Congestion: "cubic", SendMax: "4096 16384 4194304", ReceiveMax: "4096 131072 6291456", LoadBefore: "0.1 0.2 0.3", LoadAfter: "1.0 0.5 0.4"},
		Date:    "2026-01-02", Rounds: 2, Seconds: 100,
		Missing: []Missing{{tc, "", "tc: exit status 2: Error: Specified qdisc kind is unknown."}},
	}
	host.add(none, "icmp", 0, 0.02)
	host.add(none, "tcp", 0, 0.1)
	for _, delay := range []float64{1, 20} {
		host.add(queue, "icmp", delay, delay+0.02+0.05)
		host.add(toxiproxy, "tcp", delay, delay+0.1+0.6)
	}
	host.Losses = []Loss{{nft, 1, 10_000, 100, 0, 0}, {queue, 25, 10_000, 2000, 0, 0}, {none, 0, 10_000, 0, 0, 0}}
	host.Jitters = []Jitter{{queue, "uniform", 20, 4, 1000, 1000, 5, 20, 4 / math.Sqrt(3), 0.02}, {queue, "pareto", 20, 4, 1000, 990, 7, 20, 3.6, 0.1}, {none, "", 20, 0, 1000, 1000, 0, 0.01, 0.001, 0}}
	host.TCP = []TCP{{none, 0, 0, 60, 0}, {queue, 10, 0, 2.5, 0}, {queue, 10, 1, 3.5, 9}, {toxiproxy, 10, 0, 8, 0}}
	host.UDP = []UDP{{queue, 10, 0, 200_000, 3, 600_000, 599_940, 60, 0}, {none, 0, 0, 200_000, 3, 600_000, 599_000, 0, 1000}}
	host.Filters = []Filter{{none, 0, false, 0, 0, list{0.02}}, {queue, 0, true, 1, 0, list{1.1}}, {queue, 10_000, true, 1, 0, list{1.21}}, {tc, 1, false, 0, 0, list{0.03}}, {tc, 10_000, false, 0, 0, list{1.5}}}
	host.Starts = []Start{{queue, 30, 31, 1.5}, {queue, 50, 51, 2.5}, {queue, 34, 35, 1.6}}
	host.Commands = []Duration{{"nsenter … tc qdisc replace … pfifo", 3.2}}
	vm := &Results{Machine: Machine{Kernel: "6.1.0", Processor: "QEMU TCG CPU", Processors: 2, Emulated: true, Clock: "hpet", Congestion: "cubic", LoadBefore: "0 0 0", LoadAfter: "1 0 0"}, Date: "2026-01-02", Rounds: 2, Seconds: 60}
	vm.add(none, "icmp", 0, 0.5)
	vm.add(netem, "icmp", 20, 20.5+0.3)
	vm.add(queue, "icmp", 20, 20.5-0.07)
	vm.add(tc, "icmp", 20, 20.5+0.25)
	vm.TCP = []TCP{{netem, 10, 0, 1, 0}, {queue, 10, 0, 0.95, 0}}
	return machines{host, vm}
}

// add adds two rounds of four round trips around ms.
func (r *Results) add(backend, kind string, delay, ms float64) {
	for round := range 2 {
		r.Delays = append(r.Delays, Delay{backend, kind, delay, round, 5, list{ms - 0.01, ms, ms, ms + 0.01}})
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	golden(t, "page.golden", []byte(samples().page("accuracy.svg")))
}

// What nobody has measured is not measured, and nothing is reached by that.
func TestPageOfNothing(t *testing.T) {
	t.Parallel()
	page := machines{{Machine: Machine{Kernel: "6.18.1"}}}.page("x.svg")
	if !strings.Contains(page, "\n0 of 9 are reached.") || strings.Contains(page, "NaN") {
		t.Error(page)
	}
}

// The plot is an image that a browser reads, the same each time.
func TestPlot(t *testing.T) {
	t.Parallel()
	var drawn [2]string
	for i := range drawn {
		path := filepath.Join(t.TempDir(), "p.svg")
		if err := samples().plot(path); err != nil {
			t.Fatal(err)
		}
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		drawn[i] = string(body)
	}
	if drawn[0] != drawn[1] {
		t.Error("two plots of the same results differ")
	}
	for _, want := range []string{"host, Linux 6.18.1", "VM, Linux 6.1.0", "simian netem", "toxiproxy", "Arial"} {
		if !strings.Contains(drawn[0], want) {
			t.Errorf("there is no %q in it", want)
		}
	}
	d := xml.NewDecoder(strings.NewReader(drawn[0]))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestThousands(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 199999.6: "200,000", 1234567: "1,234,567"} {
		if got := thousands(v); got != want {
			t.Errorf("%g: %s", v, got)
		}
	}
}
