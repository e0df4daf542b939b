package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/proc"
)

// herd is the victims of one action.
type herd struct {
	tag     string   // in their command lines
	cgroups []string // they are all in these; none where they have none of their own
	workers []*worker
	before  []string // what faults could change of them, one line a fact; nil where it is not compared
	struck  []string // faults that are on them
}

// newHerd starts n victims. With restart, one that dies is started again.
func newHerd(tag string, cgroups []string, n int, fork, restart bool) (*herd, error) {
	h := &herd{tag: tag, cgroups: cgroups}
	procs, forks := none, none
	if len(cgroups) > 0 {
		procs = strings.Join(cgroups, ",")
	}
	if fork {
		forks = "fork"
	}
	for range n {
		w := &worker{args: []string{roleVictim, tag, procs, forks}, restart: restart, over: make(chan struct{})}
		if err := w.start(); err != nil {
			return nil, errors.Join(err, h.end())
		}
		h.workers = append(h.workers, w)
		go w.supervise()
	}
	if !restart {
		h.before = h.state()
	}
	return h, nil
}

// pattern matches the command lines of the herd.
func (h *herd) pattern() string { return "^" + roleVictim + " " + h.tag + " " }

// broken says what of the herd does not run, nothing where all does.
func (h *herd) broken() []string {
	var out []string
	for _, w := range h.workers {
		if what := w.broken(); what != "" {
			out = append(out, what)
		}
	}
	for _, dir := range h.cgroups {
		if frozen(dir) {
			out = append(out, "cgroup "+dir+" is frozen")
		}
		pids, _ := proc.Host().CgroupMembers(dir) // their children
		for _, pid := range pids {
			if stopped(pid) {
				out = append(out, fmt.Sprintf("pid %d is stopped", pid))
			}
		}
	}
	return out
}

// anyBroken is broken in short, for who asks often.
func (h *herd) anyBroken() bool {
	if slices.ContainsFunc(h.cgroups, frozen) {
		return true
	}
	for _, w := range h.workers {
		if st, err := proc.Host().Stat(w.pid()); err == nil && st.State == 'T' {
			return true
		}
	}
	return false
}

// end kills the herd and removes its cgroup.
func (h *herd) end() error {
	for _, dir := range h.cgroups {
		thaw(dir)
	}
	for _, w := range h.workers {
		w.end()
	}
	var errs []error
	for _, dir := range h.cgroups {
		if pids, err := proc.Host().CgroupMembers(dir); err == nil {
			killAll(pids)
		}
		errs = append(errs, removeCgroup(dir))
	}
	return errors.Join(errs...)
}

// state is what faults could change of the herd: its processes, and its own
// cgroups with those below.
func (h *herd) state() []string {
	var lines []string
	for _, w := range h.workers {
		target, err := proc.Host().Target(w.pid())
		if err != nil {
			return append(lines, err.Error())
		}
		seen, err := proc.Host().Observe(context.Background(), target)
		if err != nil {
			return append(lines, err.Error())
		}
		for _, o := range seen {
			if strings.HasPrefix(o.Object, "process:") || strings.HasPrefix(o.Object, "cgroup:") && slices.Contains(h.cgroups, o.Object[len("cgroup:"):]) {
				lines = append(lines, prefixed(o.Object+" ", o.Lines)...)
			}
		}
	}
	for _, dir := range h.cgroups {
		below, _ := filepath.Glob(filepath.Join(dir, "*", procsFile))
		lines = append(lines, prefixed("there is ", below)...)
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

func prefixed(prefix string, lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = prefix + line
	}
	return out
}

// changed says what of the herd is not as it was.
func (h *herd) changed() []string {
	if h.before == nil {
		return nil
	}
	return new(wire).differences(h.before, h.state())
}

// worker is one victim, and its supervisor.
type worker struct {
	args    []string
	restart bool

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended bool
	over  chan struct{}
}

// start starts the victim, and returns once it is ready.
func (w *worker) start() error {
	c := role(w.args...)
	out, err := c.StdoutPipe()
	if err == nil {
		err = w.launch(c)
	}
	if err != nil {
		return err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil && !w.restart {
		return errors.Join(fmt.Errorf("start a victim: %w", err), c.Wait())
	}
	return nil
}

func (w *worker) launch(c *exec.Cmd) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return os.ErrProcessDone
	}
	w.cmd = c
	return c.Start()
}

// supervise waits for the victim's end, and starts it again.
func (w *worker) supervise() {
	defer close(w.over)
	for {
		_ = w.cmd.Wait()
		if !w.restart || w.start() != nil {
			return
		}
	}
}

func (w *worker) end() {
	w.mu.Lock()
	w.ended = true
	_ = w.cmd.Process.Signal(unix.SIGCONT)
	_ = w.cmd.Process.Kill()
	w.mu.Unlock()
	select {
	case <-w.over:
	case <-time.After(10 * time.Second):
	}
}

func (w *worker) pid() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cmd.Process.Pid
}

func (w *worker) broken() string {
	pid := w.pid()
	if stopped(pid) {
		return fmt.Sprintf("pid %d (%s %s) is stopped", pid, w.args[0], w.args[1])
	}
	return ""
}

// dead says which victims are not there, though they should be.
func (h *herd) dead() []string {
	var out []string
	for _, w := range h.workers {
		pid := w.pid()
		if st, err := proc.Host().Stat(pid); err != nil || st.Exited() {
			out = append(out, fmt.Sprintf("pid %d (%s %s) is dead", pid, w.args[0], w.args[1]))
		}
	}
	return out
}

// stopped tells whether a thread of the process is stopped.
func stopped(pid int) bool {
	threads, _ := proc.Host().Threads(pid)
	for _, t := range threads {
		if t.State == 'T' {
			return true
		}
	}
	return false
}

// killAll kills processes that the soak has just found to be its own.
func killAll(pids []int) {
	for _, pid := range pids {
		if pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}
