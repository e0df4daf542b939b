package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// helpers are the processes of a fault's helpers: they are in cgroups below
// those of the target, named for the run.
func (f *applied) helpers() []int {
	dirs := []string{f.target.Cgroup.V2.Path}
	for _, d := range f.target.Cgroup.V1 {
		dirs = append(dirs, d.Path)
	}
	for _, dir := range dirs {
		if own := f.helperIn(dir); own != "" {
			return numbers(filepath.Join(own, "cgroup.procs"))
		}
	}
	return nil
}

// helperIn is the cgroup of a helper below one of the target's, "" where there
// is none.
func (f *applied) helperIn(dir string) string {
	if dir == "" {
		return ""
	}
	found, _ := filepath.Glob(filepath.Join(dir, "simian-"+string(f.run)+"*"))
	if len(found) == 0 {
		return ""
	}
	return found[0]
}

func numbers(file string) (list []int) {
	data, _ := os.ReadFile(file)
	for _, word := range bytes.Fields(data) {
		n, _ := strconv.Atoi(string(word))
		list = append(list, n)
	}
	return list
}

// used sums up the processor time of processes by the kernel's clock of each
// (clock_getcpuclockid(3)): all threads, those that have ended too.
func used(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		var ts unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
			return 0, fmt.Errorf("read the processor time of %d: %w", pid, err)
		}
		sum += time.Duration(ts.Nano())
	}
	return sum, nil
}

// own is the processor time of this process.
func own() time.Duration {
	d, _ := used([]int{os.Getpid()})
	return d
}

// look is what was seen of processes over a while.
type look struct {
	cpus    float64 // that they had
	beyond  float64 // CPUs that this process had meanwhile
	read    float64 // MiB/s, from disks
	written float64
}

// watch looks at processes, which do not change meanwhile, and does each once a
// second.
func watch(ctx context.Context, long time.Duration, pids []int, each func()) (look, error) {
	if len(pids) == 0 {
		return look{}, fmt.Errorf("there is nothing to look at")
	}
	before, err := used(pids)
	if err != nil {
		return look{}, err
	}
	mine, read, written, start := own(), counted(pids, "read_bytes"), counted(pids, "write_bytes"), time.Now()
	for left := long; left > 0; left = long - time.Since(start) {
		if err := wait(ctx, min(left, time.Second)); err != nil {
			return look{}, err
		}
		each()
	}
	after, err := used(pids)
	took := time.Since(start).Seconds()
	return look{
		cpus: (after - before).Seconds() / took, beyond: (own() - mine).Seconds() / took,
		read:    (counted(pids, "read_bytes") - read) / took / (1 << 20),
		written: (counted(pids, "write_bytes") - written) / took / (1 << 20),
	}, err
}

// counted sums up a field of proc_pid_io(5).
func counted(pids []int, field string) (sum float64) {
	for _, pid := range pids {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
		for line := range bytes.Lines(data) {
			if name, value, _ := bytes.Cut(line, []byte(": ")); string(name) == field {
				n, _ := strconv.ParseFloat(string(bytes.TrimSpace(value)), 64)
				sum += n
			}
		}
	}
	return sum
}

// settle is how long a load gets to be what it will be.
const settle = time.Second

// watchFault looks at the helper of a fault, which is asked once a second how it does.
func (b *bench) watchFault(ctx context.Context, f *applied, long time.Duration) (look, error) {
	if err := wait(ctx, settle); err != nil {
		return look{}, err
	}
	return watch(ctx, long, f.helpers(), func() {
		for _, s := range f.steps {
			_ = f.verify(ctx, s.Do)
		}
	})
}
