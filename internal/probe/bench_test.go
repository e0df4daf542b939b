package probe

import (
	"syscall"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHTTP is one sample against a server in another process. The CPU
// time is the client's alone.
func BenchmarkHTTP(b *testing.B) {
	server := "http://" + startServer(b) + "/stats"
	for name, json := range map[string]string{"status": "", "json": "$.perMinute"} {
		b.Run(name, func(b *testing.B) {
			p := newProbe("http", func(h *HTTP) { h.URL, h.JSON = server, json })
			b.ReportAllocs()
			before := cpu()
			for b.Loop() {
				if _, err := p.Measure(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// BenchmarkWindow measures a window of finished requests.
func BenchmarkWindow(b *testing.B) {
	for name, n := range map[string]uint64{"10k": 10_000, "100k": 100_000} {
		l, err := NewLoad(Env{}, []experiment.Traffic{{Name: "web", URL: "http://web", Rate: experiment.Rate(n)}})
		if err != nil {
			b.Fatal(err)
		}
		r := l.streams["web"].record
		r.begin(time.Now())
		random := uint64(1)
		for i := range n {
			random = random*6364136223846793005 + 1442695040888963407
			putOutcome(r, i, time.Duration(random>>36), random>>60 != 0)
		}
		for _, what := range []string{"success", "mean", "p99"} {
			p := l.Probe(check(what))
			b.Run(name+"/"+what, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := p.MeasureWindow(b.Context(), r.began, r.began.Add(time.Second+1)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkOutcome notes one outcome while a hundred windows wait.
func BenchmarkOutcome(b *testing.B) {
	r, at := newTestRecord(time.Minute)
	for range 100 {
		if _, err := r.wait(at(0), at(time.Second)); err != nil {
			b.Fatal(err)
		}
	}
	n := uint64(1000)
	for b.Loop() {
		putOutcome(r, n, time.Millisecond, true)
		n++
	}
}

// BenchmarkExec is one run of a program that does nothing.
func BenchmarkExec(b *testing.B) {
	p := newProbe("exec", func(e *Exec) { e.Command = []string{"/bin/true"} })
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Measure(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
