package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// witness is what a lab was made of when the blow fell.
type witness struct {
	runs    []string                     // that it was launched by
	members map[experiment.ProcessID]int // its processes, each with a pidfd
	names   map[experiment.ProcessID]string
	boxes   int        // PID 1s among them: containers
	nets    []*os.File // its network namespaces; while they are held, nothing else gets their numbers
	frozen  bool       // something of it was frozen

	gone sync.WaitGroup
	from time.Time // when the blow fell

	mu    sync.Mutex
	ended int       // of the processes
	last  time.Time // when the last of those had ended
	late  []string  // those that took long, and what for
}

// look takes down what is there of the lab that run keeps up.
func (t *trial) look(runner int) *witness {
	w := &witness{runs: t.runs(), members: map[experiment.ProcessID]int{}, names: map[experiment.ProcessID]string{}}
	host := proc.Host()
	pids := children(host, runner)
	for _, dir := range t.labCgroups() {
		found, _ := host.CgroupMembers(dir)
		pids = append(pids, found...)
		w.frozen = w.frozen || frozen(dir)
	}
	slices.Sort(pids)
	nets := map[string]string{} // by name, a way to open them
	for _, pid := range slices.Compact(pids) {
		w.add(host, pid, runner, nets)
	}
	w.addNets(runner, nets)
	return w
}

// children returns the containers and the fork server of a runner.
func children(host proc.FS, runner int) []int {
	var out []int
	if runner <= 1 { // it is gone: its children are somebody else's now
		return nil
	}
	pids, _ := host.PIDs()
	for _, pid := range pids {
		st, err := host.Stat(pid)
		if err != nil || st.PPID != runner || st.Exited() {
			continue
		}
		if args, err := host.Cmdline(pid); err == nil && len(args) > 0 && args[0] != guardianName {
			out = append(out, pid)
		}
	}
	return out
}

// What simian's own processes are called, by argv[0], before they become what
// they are for.
const (
	guardianName = "simian-guardian"
	stageName    = "simian-container"
	helperName   = "simian-queue"
)

// labCgroups returns the cgroups of the trial's labs, in all hierarchies.
func (t *trial) labCgroups() []string {
	var dirs []string
	roots, _ := proc.Host().CgroupRoots()
	for _, run := range t.runs() {
		for _, root := range roots {
			_ = filepath.WalkDir(filepath.Join(root, "simian-"+run), func(path string, e fs.DirEntry, err error) error {
				if err == nil && e.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
		}
	}
	return dirs
}

// runs returns all runs of the trial that have a journal.
func (t *trial) runs() []string {
	var out []string
	for _, path := range append(t.journals("open"), t.journals("done")...) {
		out = append(out, runOf(path))
	}
	if t.tail != nil && t.tail.run != "" && !slices.Contains(out, t.tail.run) {
		out = append(out, t.tail.run)
	}
	return out
}

// add takes down a process, if it is the runner's child or in its lab's cgroup
// still: whoever gets its number next is neither. It is looked at only, and
// never sent a signal.
func (w *witness) add(host proc.FS, pid, runner int, nets map[string]string) {
	id, err := host.Identify(pid)
	if err != nil {
		return
	}
	fd, err := proc.OpenPidfd(id)
	if err != nil {
		return
	}
	if st, err := host.Stat(pid); err != nil || st.ID() != id || runner <= 1 || st.PPID != runner && !inLab(w.runs, pid) {
		unix.Close(fd)
		return
	}
	w.members[id] = fd
	args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	w.names[id] = fmt.Sprintf("%s (pid %s within) %q", id, innerPID(pid), args)
	if st, err := host.Stat(pid); err == nil && innerPID(pid) == "1" && st.PPID != 1 {
		w.boxes++
	}
	ns := fmt.Sprintf("/proc/%d/ns/net", pid)
	if name, err := os.Readlink(ns); err == nil {
		nets[name] = ns
	}
}

// inLab tells whether a process is in a container of a lab that one of runs
// launched.
func inLab(runs []string, pid int) bool {
	paths, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return slices.ContainsFunc(runs, func(run string) bool { return strings.Contains(string(paths), "/simian-"+run+"/") })
}

// innerPID is a process's pid in the innermost of its PID namespaces
// (NSpid of proc_pid_status(5)).
func innerPID(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(data), "\nNSpid:")
	line, _, _ := strings.Cut(rest, "\n")
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return ""
	}
	return fields[len(fields)-1]
}

// addNets opens the network namespaces found, and those that the runner holds.
func (w *witness) addNets(runner int, nets map[string]string) {
	dir := fmt.Sprintf("/proc/%d/fd", runner) // not there where it is gone
	fds, _ := os.ReadDir(dir)
	for _, fd := range fds {
		path := filepath.Join(dir, fd.Name())
		if name, err := os.Readlink(path); err == nil && strings.HasPrefix(name, "net:[") {
			nets[name] = path
		}
	}
	if own, err := os.Readlink("/proc/self/ns/net"); err == nil {
		delete(nets, own)
	}
	for _, path := range nets {
		if f, err := os.Open(path); err == nil {
			w.nets = append(w.nets, f)
		}
	}
}

// tardy is how long a process may take to end before it is asked why.
const tardy = 150 * time.Millisecond

// watch takes down when the last of the processes has ended.
func (w *witness) watch(patience time.Duration) {
	if w == nil {
		return
	}
	w.from = time.Now()
	for id, fd := range w.members {
		w.gone.Go(func() {
			if !ends(fd, tardy) {
				w.ask(id)
			}
			if ends(fd, patience) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.ended++
				w.last = time.Now()
			}
		})
	}
}

// ends tells whether a process ends within d.
func ends(pidfd int, d time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for end := time.Now().Add(d); ; {
		n, err := unix.Poll(fds, max(0, int(time.Until(end).Milliseconds())))
		if n > 0 || !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// ask notes what a process that has not ended waits for.
func (w *witness) ask(id experiment.ProcessID) {
	what := w.names[id]
	threads, _ := proc.Host().Threads(id.PID)
	for _, t := range threads {
		stack, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stack", id.PID, t.PID))
		top, _, _ := strings.Cut(string(stack), "\n")
		what += fmt.Sprintf("; thread %d %c %s", t.PID, t.State, strings.TrimPrefix(top, "[<0>] "))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late = append(w.late, what)
}

// left says what of the lab is still there, and gives everything up.
func (w *witness) left() []string {
	if w == nil {
		return nil
	}
	w.gone.Wait()
	var out []string
	for id, fd := range w.members {
		if !ends(fd, 0) {
			args, _ := proc.Host().Cmdline(id.PID)
			out = append(out, fmt.Sprintf("process %s of the lab has not ended: %q", id, args))
		}
		unix.Close(fd)
	}
	out = append(out, w.netHolders()...)
	for _, f := range w.nets {
		f.Close()
	}
	return out
}

// netHolders says who still holds a network namespace of the lab. A child of
// this process holds what it does for a moment, before it executes another
// program.
func (w *witness) netHolders() []string {
	var held []string
	for range looks {
		if held = w.netHoldersNow(); len(held) == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return held
}

func (w *witness) netHoldersNow() []string {
	names := map[string]bool{}
	for _, f := range w.nets {
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) == nil {
			names[fmt.Sprintf("net:[%d]", st.Ino)] = true
		}
	}
	if len(names) == 0 {
		return nil
	}
	var out []string
	paths, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	self := fmt.Sprintf("/proc/%d/", os.Getpid())
	for _, path := range append(paths, fds...) {
		if name, err := os.Readlink(path); err == nil && names[name] && !strings.HasPrefix(path, self) {
			out = append(out, fmt.Sprintf("network namespace %s of the lab is held by %s", name, path))
		}
	}
	return out
}
