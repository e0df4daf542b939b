package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/simianhq/simian/internal/proc"
)

// BenchmarkLaunch launches containers, some at once, whose command does
// nothing: to-execve is when Start returns, reaped when Wait does. Cgroups are
// made and removed in the time per operation, as other runtimes do.
func BenchmarkLaunch(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkLaunch(b, n) })
	}
}

// BenchmarkDown kills containers that run, all at once, until they are reaped
// and their cgroups are gone.
func BenchmarkDown(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := newLauncher(b)
			specs := make([]*Spec, n)
			for i := range specs {
				specs[i] = newSpec(b, "sleep")
			}
			for b.Loop() {
				b.StopTimer()
				top := fmt.Sprintf("simian-down%d", n)
				var group sync.WaitGroup
				for i, s := range specs {
					group.Go(func() {
						fresh(b, s)
						var err error
						if s.Cgroup, err = NewCgroup(proc.Host(), fmt.Sprintf("%s/c-%d", top, i), Limits{}); err == nil {
							_, err = l.Start(context.Background(), s, Stdio{})
						}
						if err != nil {
							b.Error(err)
						}
					})
				}
				group.Wait()
				b.StartTimer()
				if err := KillCgroup(context.Background(), proc.Host(), top); err != nil {
					b.Error(err)
				}
				if err := RemoveCgroup(context.Background(), proc.Host(), top); err != nil {
					b.Error(err)
				}
			}
		})
	}
}

// fresh empties what a container has written.
func fresh(t testing.TB, s *Spec) {
	for _, dir := range []string{s.Upper, s.Work} {
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkCgroup makes and removes a cgroup.
func BenchmarkCgroup(b *testing.B) {
	needRoot(b)
	for b.Loop() {
		c, err := NewCgroup(proc.Host(), "simian-bench/c-1", Limits{MemoryBytes: 1 << 30, Pids: 1000, CPUs: 1})
		if err == nil {
			err = c.Remove(context.Background())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := RemoveCgroup(context.Background(), proc.Host(), "simian-bench"); err != nil {
		b.Error(err)
	}
}

func benchmarkLaunch(b *testing.B, n int) {
	l := newLauncher(b)
	specs := make([]*Spec, n)
	for i := range specs {
		specs[i] = newSpec(b)
	}
	var up, down, whole []time.Duration
	for b.Loop() {
		b.StopTimer()
		for _, s := range specs {
			fresh(b, s)
		}
		b.StartTimer()
		began := time.Now()
		var group sync.WaitGroup
		var mu sync.Mutex
		for _, s := range specs {
			group.Go(func() {
				s := *s
				s.Cgroup = newCgroup(b, Limits{})
				p, err := l.Start(context.Background(), &s, Stdio{})
				if err != nil {
					b.Error(err)
					return
				}
				started := time.Since(began)
				exit := p.Wait()
				reaped := time.Since(began)
				if !exit.Success() {
					b.Error(exit)
				}
				if err := s.Cgroup.Remove(context.Background()); err != nil {
					b.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				up, down = append(up, started), append(down, reaped)
			})
		}
		group.Wait()
		whole = append(whole, time.Since(began))
	}
	for name, list := range map[string][]time.Duration{"ms-to-execve": up, "ms-reaped": down, "ms-all-gone": whole} {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Microseconds())/1000, name)
	}
}
