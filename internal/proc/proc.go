// Package proc reads what the kernel says about processes, their cgroups (of
// both versions) and their namespaces, and enters a namespace. It changes
// nothing.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// FS is where the kernel shows its state.
type FS struct {
	Proc string // a proc_pid(5) file system, such as /proc
	Sys  string // a sysfs(5) file system, such as /sys; cgroups are mounted below it
}

// Host returns what this machine shows at the usual places.
func Host() FS { return FS{Proc: "/proc", Sys: "/sys"} }

// path joins parts below /proc/PID.
func (f FS) path(pid int, parts ...string) string {
	return f.Proc + "/" + strconv.Itoa(pid) + "/" + strings.Join(parts, "/")
}

// read returns a file of /proc/PID that the kernel writes all at once. The
// error is experiment.ErrGone where there is no such process.
func (f FS) read(pid int, name string) ([]byte, error) {
	data, err := readFile(f.path(pid, name), true)
	if err != nil {
		return nil, f.failure("read "+name, pid, err)
	}
	return data, nil
}

// readFile is os.ReadFile without what costs most on files of /proc: asking
// for a size, which is always 0, and registering with the poller. Where the
// kernel writes the file all at once, a read that leaves room is the last.
func readFile(path string, once bool) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for err == unix.EINTR {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	data := make([]byte, 0, 2048)
	for {
		n, err := unix.Read(fd, data[len(data):cap(data)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		data = data[:len(data)+n]
		if n == 0 || once && len(data) < cap(data) {
			return data, nil
		}
		data = slices.Grow(data, 2048)
	}
}

// failure words an error about a process, and tells those that say that it is
// gone from the others.
func (f FS) failure(verb string, pid int, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		if _, missing := os.Stat(f.path(pid)); missing != nil {
			return fmt.Errorf("%s of pid %d: %w", verb, pid, experiment.ErrGone)
		}
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Errorf("%s of pid %d: %w", verb, pid, err)
}

// PIDs returns every process that /proc shows, in order. Zombies and kernel
// threads are among them.
func (f FS) PIDs() ([]int, error) {
	dir, err := os.Open(f.Proc)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	return numbers(names), nil
}

// numbers returns those of names that are numbers, sorted.
func numbers(names []string) []int {
	list := make([]int, 0, len(names))
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

// Comm returns the name of a process, cut by the kernel at 15 bytes
// (proc_pid_comm(5)).
func (f FS) Comm(pid int) (string, error) {
	data, err := f.read(pid, "comm")
	return string(bytes.TrimSuffix(data, []byte("\n"))), err
}

// Cmdline returns the arguments a process was started with, or has set since
// (proc_pid_cmdline(5)). Kernel threads and zombies have none.
func (f FS) Cmdline(pid int) ([]string, error) {
	data, err := f.read(pid, "cmdline")
	if err != nil {
		return nil, err
	}
	data = bytes.TrimRight(data, "\x00")
	if len(data) == 0 {
		return nil, nil
	}
	return strings.Split(string(data), "\x00"), nil
}

// Exe returns the path of a process's executable in its own mount namespace,
// without the " (deleted)" that the kernel adds (proc_pid_exe(5)). Kernel
// threads have none, and those of other users need privilege.
func (f FS) Exe(pid int) (string, error) {
	path, err := os.Readlink(f.path(pid, "exe"))
	if err != nil {
		return "", f.failure("read exe", pid, err)
	}
	return strings.TrimSuffix(path, " (deleted)"), nil
}

// UID returns the effective user of a process.
func (f FS) UID(pid int) (int, error) {
	status, err := f.status(pid)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(status["Uid"])
	if len(fields) < 2 {
		return 0, fmt.Errorf("read uid of pid %d: no Uid line in its status", pid)
	}
	uid, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0, fmt.Errorf("read uid of pid %d: %w", pid, err)
	}
	return uid, nil
}

// Signals are the signal masks of a process: bit N-1 stands for signal N.
type Signals struct {
	Blocked, Ignored, Caught uint64
	Pending                  uint64 // for its main thread or the whole process
}

// Signals returns the masks of a process's main thread (proc_pid_status(5)).
func (f FS) Signals(pid int) (Signals, error) {
	status, err := f.status(pid)
	if err != nil {
		return Signals{}, err
	}
	mask := func(key string) uint64 {
		v, bad := strconv.ParseUint(status[key], 16, 64)
		if bad != nil && err == nil {
			err = fmt.Errorf("read %s of pid %d: %w", key, pid, bad)
		}
		return v
	}
	s := Signals{
		Blocked: mask("SigBlk"), Ignored: mask("SigIgn"), Caught: mask("SigCgt"),
		Pending: mask("SigPnd") | mask("ShdPnd"),
	}
	return s, err
}

// status returns the lines of /proc/PID/status by key.
func (f FS) status(pid int) (map[string]string, error) {
	data, err := f.read(pid, "status")
	if err != nil {
		return nil, err
	}
	status := make(map[string]string, 64)
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		status[key] = strings.TrimSpace(value)
	}
	return status, nil
}

// OwnPIDNamespace gives an error where /proc shows the processes of another
// PID namespace than this process's: its pids mean others here.
func (f FS) OwnPIDNamespace() error {
	self, err := os.Readlink(filepath.Join(f.Proc, "self"))
	if err != nil {
		return fmt.Errorf("read %s/self: %w", f.Proc, err)
	}
	if self != strconv.Itoa(os.Getpid()) {
		return fmt.Errorf("%s shows the processes of another PID namespace (this is pid %d, there it is %s): mount a proc of this one",
			f.Proc, os.Getpid(), self)
	}
	return nil
}
