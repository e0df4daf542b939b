package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Two namespaces, packets between them, and what others do to those. How late
// they are is for the benchmark: here they are late enough.
func TestLab(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	l, err := newLab()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("round trips", func(t *testing.T) {
		trips, err := l.ping(t.Context(), pings{to: farAddr, n: 20, every: ms, wait: 10 * time.Second})
		if err != nil || len(trips) != 20 {
			t.Errorf("%d of 20: %v", len(trips), err)
		}
	})
	t.Run("a flow", func(t *testing.T) {
		got, err := l.flow(t.Context(), flow{n: 500, size: 1200, every: 100 * time.Microsecond, batch: 8, wait: 10 * time.Second})
		if err != nil || got.sent != 500 || got.received != 500 || got.lost() != 0 || got.again != 0 || len(got.arrived()) != 500 {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("toxiproxy", func(t *testing.T) {
		by, err := (&toxic{l}).start(t.Context(), fault{delay: 20 * ms})
		if err != nil {
			t.Fatal(err)
		}
		trips, err := l.chat(t.Context(), by, pings{n: 20, every: ms, wait: 10 * time.Second})
		if err != nil || len(trips) != 20 || percentile(trips, 0) < 20 {
			t.Errorf("%v, %v", trips, err)
		}
		rate, _, err := l.rate(t.Context(), by, bulk{warm: 50 * ms, length: 50 * ms})
		if err != nil || rate <= 0 {
			t.Errorf("%g Gbit/s, %v", rate, err)
		}
		if err := by.stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("tc", func(t *testing.T) { testTC(t, l) })
}

func testTC(t *testing.T, l *lab) {
	if _, err := exec.LookPath("tc"); err != nil {
		t.Skip("no tc here")
	}
	var dir string
	if _, err := os.Stat(tables[0]); err == nil { // Debian's: by itself as well
		dir = t.TempDir()
		if err := pack(dir); err != nil {
			t.Fatal(err)
		}
	}
	u32 := &tcNetem{l, tools{dir}}
	by, err := u32.start(t.Context(), fault{cidrs: append(ranges(100), netip.PrefixFrom(otherAddr, 32))})
	if err != nil {
		t.Skip(err)
	}
	trips, err := l.ping(t.Context(), pings{to: otherAddr, n: 5, every: ms, wait: 10 * time.Second})
	if err != nil || len(trips) != 5 {
		t.Errorf("%d of 5 past the filter: %v", len(trips), err)
	}
	if err := by.stop(); err != nil {
		t.Error(err)
	}
	if err := u32.run(nil, "qdisc", "del", "dev", link, "root"); err == nil {
		t.Error("the qdisc was still there")
	}
}

func TestExperiment(t *testing.T) {
	t.Parallel()
	held, err := os.FindProcess(4711)
	if err != nil {
		t.Fatal(err)
	}
	s := &simian{lab: &lab{held: &exec.Cmd{Process: held}}, backend: "queue"}
	file, err := s.experiment(fault{delay: 20 * ms, jitter: 1500 * time.Microsecond, distribution: "pareto", loss: 0.1, cidrs: ranges(2)})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Spec struct {
			Method []struct{ Fault, Target map[string]any }
		}
	}
	if err := json.Unmarshal(file, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"type": "latency", "direction": "egress", "backend": "queue", "delay": "20ms", "jitter": "1.5ms", "distribution": "pareto",
		"loss": 0.1, "cidrs": []any{"100.64.0.0/30", "100.64.0.8/30"},
	}
	if d := cmp.Diff(want, got.Spec.Method[0].Fault); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]any{"type": "process", "pid": 4711.0}, got.Spec.Method[0].Target); d != "" {
		t.Error(d)
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	request := echo(7, 300, 1234)
	reply := append(make([]byte, 20), request...)
	reply[0], reply[20] = 0x45, 0
	if seq, sent, ok := answer(reply, 7); seq != 300 || sent != 1234 || !ok {
		t.Error(seq, sent, ok)
	}
	for name, p := range map[string][]byte{"cut off": reply[:30], "nothing": nil, "a request": append(reply[:20:20], request...)} {
		if _, _, ok := answer(p, 7); ok {
			t.Errorf("%s is an answer", name)
		}
	}
	if _, _, ok := answer(reply, 8); ok {
		t.Error("an answer to somebody else")
	}
}

func TestSinceWhen(t *testing.T) {
	t.Parallel()
	f := &flown{began: []int64{1e6, 2e6, 3e6, 4e6, 5e6}, delays: []float64{20, 0.1, 20.1, 0, 20.2}}
	if ms, err := sinceWhen(f, 5e5, 10); ms != 2.5 || err != nil {
		t.Error(ms, err)
	}
	if _, err := sinceWhen(f, 0, 30); err == nil || err.Error() != "the last of 5 packets were not late" {
		t.Error(err)
	}
}

// One backend that fails doesn't end the benchmark, nor is it left out in
// silence.
func TestRound(t *testing.T) {
	t.Parallel()
	b := &bench{options: options{dir: "/x"}}
	ran := 0
	good := task{backend: baseline{}, do: func(context.Context, running) error { ran++; return nil }}
	bad := task{backend: baseline{}, do: func(context.Context, running) error {
		ran := rand.Uint32N(10)
		return fmt.Errorf("in netns 402653180%d:\n  simian_aaaaa%d_q0 and simian-aaaaa%d are in /x/state", ran, ran, ran)
	}}
	if err := b.round(t.Context(), "delay", []task{bad, good, bad}); err != nil || ran != 1 {
		t.Error(ran, err)
	}
	if d := cmp.Diff([]Missing{{none, "delay", "in netns …: simian_…_q0 and simian-… are in …/state"}}, b.results.Missing); d != "" {
		t.Error(d)
	}
}
