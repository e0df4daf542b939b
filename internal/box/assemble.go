package box

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/stage"
)

// Where the files stand that are sent along with a program.
const (
	status = register(stage.Status + iota)
	stdin
	stdout
	stderr
	exitStatus  // a pipe: the wait status of the command, written by PID 1 of a container with init
	intoCgroup  // the version 2 cgroup to start in; /dev/null where there is none
	initCgroup  // the same for PID 1 of a container with init
	network     // the network namespace to join
	users       // the user namespace to join
	firstStatic // of the program's own registers
)

// container adds what the launcher adds to a Spec.
type container struct {
	*Spec
	host   host
	mounts []boundMount

	who                        userAnswer // where the answer to who the user is goes
	forkOp                     op         // of a container with init
	child                      register   // the command's pid, where a reaper stands before it
	top                        register   // its root
	devTree, sysTree, procTree register   // the roots of these mounts
	cgroupTrees                []register // of its Cgroup, in the order of its hierarchies
}

// host is what a first stage needs to know of the host.
type host struct {
	lastCap   int      // the highest capability of this kernel
	caps      uint64   // what this process may do
	maxFiles  uint64   // the hard limit of open files
	throttles []hidden // what to hide of its processors
}

// boundMount is a Mount with what the first stage needs to know of its source.
type boundMount struct {
	Mount
	file bool     // the source is no folder
	tree register // the mount, detached
}

// assemble returns the whole first stage of a container.
func (c *container) assemble() *assembler {
	a := newAssembler(int(firstStatic - status))
	a.Flags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	a.process()
	c.joinCgroups(a)
	c.shiftClocks(a)
	if c.Init {
		c.fork(a)
	}
	a.streams()
	if c.Net != nil {
		a.do("join its network namespace", unix.SYS_SETNS, network, unix.CLONE_NEWNET)
	}
	a.do("make its cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	a.keyring()
	if c.Hostname != "" {
		a.do("set hostname "+c.Hostname, unix.SYS_SETHOSTNAME, c.Hostname, len(c.Hostname))
	}
	c.root(a)
	c.fileSystems(a)
	c.workingDir(a)
	a.limits(c.Ulimits, c.host.maxFiles)
	c.joinUsers(a)
	a.askUser(&c.who)
	a.become(privileges{c.Caps, c.Seccomp, c.NoNewPrivs, c.host}, &c.who)
	a.execute(c.Args, c.Env, &c.who)
	if c.Init {
		c.reap(a)
	}
	return a
}

// process makes a process of its own: it ends with the launcher's thread, has
// no terminal and no file open but those it was given.
func (a *assembler) process() {
	a.diesWithLauncher()
	a.do("make its session", unix.SYS_SETSID)
}

// diesWithLauncher makes the kernel kill this process when the launcher's
// thread ends. Where that has happened already, the other end of the socket is
// closed: a thread's files are closed before its children are signalled.
func (a *assembler) diesWithLauncher() {
	a.do("have itself killed with the launcher", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
	peek := a.bytes(make([]byte, 1))
	a.do("look whether the launcher lives", unix.SYS_RECVFROM, status, peek, 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0).
		allow(unix.EAGAIN).flag(stage.NonZero)
}

// streams puts the three streams in place. All other files are closed when the
// command is executed (CVE-2024-21626).
func (a *assembler) streams() {
	for i, from := range []register{stdin, stdout, stderr} {
		a.do("set standard streams", unix.SYS_DUP3, from, i, 0)
	}
	a.do("close other files on exec", unix.SYS_CLOSE_RANGE, 3, int(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
}

// keyring gives it a session keyring of its own (keyrings(7)), where the
// kernel has any.
func (a *assembler) keyring() {
	const joinSession = 1 // KEYCTL_JOIN_SESSION_KEYRING
	a.do("make its keyring", unix.SYS_KEYCTL, joinSession, 0).allow(unix.ENOSYS, unix.EPERM)
}

// joinCgroups moves it into its version 1 cgroups. A thread that moves only
// itself, by a 0 written to tasks, need not wait until all processors have
// noticed (kernel/cgroup/cgroup.c, cgroup_procs_write_start); and this process
// has no other thread. In its version 2 cgroup it was born.
func (c *container) joinCgroups(a *assembler) {
	if c.Cgroup == nil {
		return
	}
	into, name := intoCgroup, c.Cgroup.name
	if c.Init {
		into, name = initCgroup, name+initSuffix
	}
	if c.Cgroup.v2 != "" {
		a.IntoCgroup = uint8(into)
	}
	a.joinV1(c.Cgroup.v1, name)
}

func (a *assembler) joinV1(roots []string, name string) {
	tasks := a.scratch(0)
	for _, root := range roots {
		path := filepath.Join(root, name, "tasks")
		a.do("join cgroup "+path, unix.SYS_OPENAT, unix.AT_FDCWD, path, unix.O_WRONLY|unix.O_CLOEXEC, 0).into(tasks)
		a.do("join cgroup "+path, unix.SYS_WRITE, tasks, "0", 1)
		a.do("join cgroup "+path, unix.SYS_CLOSE, tasks)
	}
}

// scratch returns a register for what is soon forgotten.
func (a *assembler) scratch(n int) register { return lastRegister - register(n) }

// fork leaves a reaper behind as PID 1, beside the limited cgroup, and goes on
// as its child, in it.
func (c *container) fork(a *assembler) {
	cgroup := any(-1)
	if c.Cgroup != nil && c.Cgroup.v2 != "" {
		cgroup = intoCgroup
	}
	c.forkOp = a.do("fork", stage.CallFork, cgroup)
	c.child = c.forkOp.out()
	if c.Cgroup != nil {
		a.joinV1(c.Cgroup.v1, c.Cgroup.name)
	}
}

// reap is what PID 1 of a container with init does: it keeps nothing but the
// right to signal its child, closes all files but one pipe, and waits.
func (c *container) reap(a *assembler) {
	c.forkOp.it().OnOK = uint16(len(a.Ops) - c.forkOp.i - 1)
	if c.Net != nil {
		a.do("join its network namespace", unix.SYS_SETNS, network, unix.CLONE_NEWNET)
	}
	for i := range 3 {
		a.do("set standard streams", unix.SYS_DUP3, exitStatus, i, 0)
	}
	c.joinUsers(a)
	if c.UserNS != nil {
		a.do("become root of its user namespace", unix.SYS_SETRESGID, 0, 0, 0)
		a.do("become root of its user namespace", unix.SYS_SETRESUID, 0, 0, 0)
		a.diesWithLauncher() // a change of credentials has undone it
	}
	a.do("close other files", unix.SYS_CLOSE_RANGE, 3, int(^uint32(0)), 0)
	a.capabilities([]string{"CAP_KILL"}, c.host.lastCap)
	a.do("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	a.do("reap", stage.CallReap, c.child, 1)
}

// look reads what a first stage needs to know of the host.
func look(fs proc.FS) (h host, err error) {
	last, err := os.ReadFile(filepath.Join(fs.Proc, "sys/kernel/cap_last_cap"))
	if err != nil {
		return h, fmt.Errorf("read the last capability: %w", err)
	}
	if h.lastCap, err = strconv.Atoi(strings.TrimSpace(string(last))); err != nil {
		return h, fmt.Errorf("read the last capability: %w", err)
	}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &caps[0]); err != nil {
		return h, fmt.Errorf("read capabilities: %w", err)
	}
	h.caps = uint64(caps[1].Permitted)<<32 | uint64(caps[0].Permitted)
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return h, fmt.Errorf("read limit of open files: %w", err)
	}
	h.maxFiles, h.throttles = files.Max, throttles(fs.Sys)
	return h, nil
}

// names returns the keys of m, sorted.
func names[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
