package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/simianhq/simian/targets/native"
)

// settle is how long a lab is left alone before its memory is read.
const settle = 2 * time.Second

// memory measures what one more container costs Simian: the proportional set
// size of all its processes with 100 idle containers, less that with one.
func (b *bench) memory(ctx context.Context) error {
	for _, init := range []bool{false, true} {
		b.say("memory, init: %t", init)
		one, err := b.resident(ctx, 1, init)
		if err != nil {
			return err
		}
		many, err := b.resident(ctx, most, init)
		if err != nil {
			return err
		}
		b.report.judgeMemory(one, many, init)
	}
	return nil
}

// resident returns the memory of Simian's processes, by what they are, in
// bytes, while a lab of n stands.
func (b *bench) resident(ctx context.Context, n int, init bool) (sizes map[string]int64, err error) {
	file, name, err := b.labs.compose(n, stay, init)
	if err != nil {
		return nil, err
	}
	err = b.labs.with(ctx, file, name, nil, func(s native.State) error {
		time.Sleep(settle)
		sizes, err = b.familySize(s.Process.PID)
		return err
	})
	return sizes, err
}

// familySize sums up a supervisor and those of its descendants that are
// Simian: fork server, guardian, reapers.
func (b *bench) familySize(supervisor int) (map[string]int64, error) {
	sizes := map[string]int64{}
	for _, pid := range append(descendants(supervisor), supervisor) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			return nil, err
		}
		name, _, _ := strings.Cut(string(line), "\x00")
		if !strings.HasPrefix(name, "simian") {
			continue // the workload
		}
		size, err := proportional(pid)
		if err != nil {
			return nil, err
		}
		sizes[name] += size
	}
	return sizes, nil
}

// descendants returns the processes below pid, of all its threads.
func descendants(pid int) (all []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range files {
		list, _ := os.ReadFile(file) // a thread that has ended has none
		for child := range strings.FieldsSeq(string(list)) {
			if n, err := strconv.Atoi(child); err == nil {
				all = append(append(all, n), descendants(n)...)
			}
		}
	}
	return all
}

// proportional returns a process's proportional set size (proc_pid_smaps(5)),
// in bytes.
func proportional(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "Pss:"); ok {
			kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, fmt.Errorf("read memory of %d: there is no Pss", pid)
}
