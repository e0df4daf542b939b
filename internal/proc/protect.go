package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// ProtectLabel is the label that keeps a target from being touched where its
// value is "true".
const ProtectLabel = "simian.dev/protect"

// Protection knows which processes must never be touched: what keeps the host
// up, what this process hangs on, and what an undo needs.
type Protection struct {
	fs        FS
	self      experiment.ProcessID
	ancestors map[int]Stat // the chain of parents
	exe       file         // this program
}

// file is a file by identity.
type file struct{ device, inode uint64 }

// Protected takes down what this process is and what it hangs on. A shell or
// CI runner above it is recognised by that, for as long as it lives.
func (f FS) Protected() (*Protection, error) {
	self, err := f.Stat(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("find what to protect: %w", err)
	}
	p := &Protection{fs: f, self: self.ID(), ancestors: map[int]Stat{}}
	if p.exe, err = f.exeFile(self.PID); err != nil {
		return nil, fmt.Errorf("find what to protect: %w", err)
	}
	for pid := self.PPID; pid > 0; {
		parent, err := f.Stat(pid)
		if errors.Is(err, experiment.ErrGone) {
			return f.Protected() // it has just ended, and its child has another parent now
		}
		if err != nil {
			return nil, fmt.Errorf("find what to protect: %w", err)
		}
		p.ancestors[pid] = parent
		pid = parent.PPID
	}
	return p, nil
}

func (f FS) exeFile(pid int) (file, error) {
	var st unix.Stat_t
	if err := unix.Stat(f.path(pid, "exe"), &st); err != nil {
		return file{}, f.failure("read exe", pid, err)
	}
	return file{st.Dev, st.Ino}, nil
}

// Why says in words what a process is that must not be touched ("a kernel
// thread"), or nothing. A process that is gone is nothing of the kind.
func (p *Protection) Why(pid int) string {
	switch {
	case pid == 0:
		return "in a PID namespace that this one cannot see"
	case pid == 1:
		return "the host's init"
	case pid == p.self.PID:
		return "Simian itself"
	}
	s, err := p.fs.Stat(pid)
	if errors.Is(err, experiment.ErrGone) {
		return ""
	}
	if err != nil {
		return "unreadable (" + err.Error() + ")"
	}
	if s.Kernel() {
		return "a kernel thread"
	}
	if a, ok := p.ancestors[pid]; ok && a.Start == s.Start {
		return "an ancestor of Simian (" + a.Comm + ")"
	}
	return p.program(s)
}

// program says what a process is by the program it runs.
func (p *Protection) program(s Stat) string {
	if exe, err := p.fs.exeFile(s.PID); err == nil && exe == p.exe && !p.fs.becomes(s.PID) {
		return "another process of Simian"
	}
	if args, err := p.fs.Cmdline(s.PID); err == nil && len(args) > 0 {
		if base := filepath.Base(args[0]); base == "simian" || base == "simian-guardian" {
			return "another process of Simian"
		}
	}
	name := s.Comm
	if exe, err := p.fs.Exe(s.PID); err == nil {
		name = filepath.Base(exe)
	}
	if what := infrastructure(name); what != "" {
		return what + " (" + name + ")"
	}
	return ""
}

// becomes tells whether a process is about to become another program in a
// container: a first stage, such as that of a health check. It is in a PID
// namespace below this one (NSpid of proc_pid_status(5)).
func (f FS) becomes(pid int) bool {
	args, err := f.Cmdline(pid)
	if err != nil || len(args) != 1 || args[0] != "simian-container" {
		return false
	}
	status, err := os.ReadFile(f.path(pid, "status"))
	_, rest, found := strings.Cut(string(status), "\nNSpid:")
	line, _, _ := strings.Cut(rest, "\n")
	return err == nil && found && len(strings.Fields(line)) > 1
}

// infrastructure says what the program name is to an undo.
func infrastructure(name string) string {
	daemons := []string{"dockerd", "containerd", "runc", "crun", "conmon", "conmonrs", "podman", "crio"}
	switch {
	case slices.Contains(daemons, name), strings.HasPrefix(name, "containerd-shim"):
		return "part of a container runtime"
	case name == "kubelet":
		return "Kubernetes' agent on this node"
	case name == "systemd", strings.HasPrefix(name, "systemd-"), strings.HasPrefix(name, "(sd-"):
		return "part of systemd"
	case name == "dbus-daemon", strings.HasPrefix(name, "dbus-broker"):
		return "the message bus that systemd is asked through"
	}
	return ""
}

// Check refuses a target that must not be touched: the error wraps
// experiment.ErrProtected and says which process it is and why.
func (p *Protection) Check(t experiment.Target) error {
	if t.Labels[ProtectLabel] == "true" {
		return fmt.Errorf("%s has the label %s=true: %w", t.Name, ProtectLabel, experiment.ErrProtected)
	}
	for _, id := range t.PIDs {
		if err := p.check(id.PID); err != nil {
			return err
		}
	}
	return nil
}

func (p *Protection) check(pid int) error {
	if why := p.Why(pid); why != "" {
		return fmt.Errorf("pid %d is %s: %w", pid, why, experiment.ErrProtected)
	}
	return nil
}

// CheckCgroup refuses a cgroup directory in whose subtree there is a process
// that must not be touched, as Check does.
func (p *Protection) CheckCgroup(dir string) error {
	pids, err := p.fs.CgroupMembers(dir)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if p.fs.helper(pid) {
			continue
		}
		if err := p.check(pid); err != nil {
			return fmt.Errorf("cgroup %s: %w", dir, err)
		}
	}
	return nil
}

// helper tells whether a process is a helper of Simian's, which goes on with a
// fault in a cgroup below its target's: it is neither the target's nor to be
// protected from what is done to that cgroup.
func (f FS) helper(pid int) bool {
	args, err := f.Cmdline(pid)
	if err != nil || len(args) != 1 || !slices.Contains(helperNames(), args[0]) {
		return false
	}
	own, err1 := f.exeFile(os.Getpid())
	its, err2 := f.exeFile(pid)
	return err1 == nil && err2 == nil && own == its
}

// helperNames are what helpers are called that run in a target's cgroup
// (internal/burn, internal/exhaust).
func helperNames() []string {
	return []string{"simian-burn-cpu", "simian-burn-memory", "simian-burn-io", "simian-exhaust-pids"}
}
