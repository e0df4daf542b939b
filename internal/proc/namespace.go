package proc

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Namespace returns the namespace of a kind (net, mnt, pid, user, uts, ipc,
// cgroup, time) that a process is in (namespaces(7)).
func (f FS) Namespace(pid int, kind string) (experiment.Namespace, error) {
	via, err := f.Identify(pid)
	if err != nil {
		return experiment.Namespace{}, err
	}
	return f.namespace(via, kind)
}

func (f FS) namespace(via experiment.ProcessID, kind string) (experiment.Namespace, error) {
	inode, err := inodeOf(f.path(via.PID, "ns", kind))
	if err != nil {
		return experiment.Namespace{}, f.failure("read namespace "+kind, via.PID, err)
	}
	return experiment.Namespace{Inode: inode, Via: via}, nil
}

// NetNamespace returns the inode of a process's network namespace.
func (f FS) NetNamespace(pid int) (uint64, error) {
	inode, err := inodeOf(f.path(pid, "ns", "net"))
	if err != nil {
		return 0, f.failure("read namespace net", pid, err)
	}
	return inode, nil
}

// inodeOf returns the inode that path leads to.
func inodeOf(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Ino, nil
}

// namespaceFiles names the file in /proc/PID/ns for each type that
// NS_GET_NSTYPE gives (ioctl_nsfs(2)).
var namespaceFiles = map[int]string{
	unix.CLONE_NEWNET: "net", unix.CLONE_NEWNS: "mnt", unix.CLONE_NEWPID: "pid",
	unix.CLONE_NEWUSER: "user", unix.CLONE_NEWUTS: "uts", unix.CLONE_NEWIPC: "ipc",
	unix.CLONE_NEWCGROUP: "cgroup", unix.CLONE_NEWTIME: "time",
}

// Do runs fn in the namespace at ns, a path such as /proc/812/ns/net, on an
// OS thread of its own. That thread goes back to its own namespace afterwards;
// where it can't, or has been in a mount namespace, it is thrown away, so that
// no other goroutine ever runs there. What fn starts (goroutines, child
// processes of other goroutines) is not in the namespace; its sockets are, and
// stay so. A user namespace cannot be entered: a Go program has many threads.
func Do(ns string, fn func() error) error {
	fd, err := unix.Open(ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open namespace: %w", &os.PathError{Op: "open", Path: ns, Err: err})
	}
	defer unix.Close(fd)
	return doIn(fd, ns, fn)
}

// doIn is Do with the namespace open already; ns names it in errors.
func doIn(fd int, ns string, fn func() error) error {
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return fmt.Errorf("ask %s for its type: %w", ns, err)
	}
	err = errors.New("run in " + ns + ": the function ended its goroutine")
	onThread(func() bool {
		home, bad := leave(fd, kind)
		if bad != nil {
			err = fmt.Errorf("enter %s: %w", ns, bad)
			return kind != unix.CLONE_NEWNS
		}
		defer func() { _ = unix.Close(home) }()
		err = fn()
		return kind != unix.CLONE_NEWNS && unix.Setns(home, kind) == nil
	})
	return err
}

// leave moves this thread into the namespace fd, and returns the one it was
// in.
func leave(fd, kind int) (home int, err error) {
	home, err = unix.Open("/proc/thread-self/ns/"+namespaceFiles[kind], unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open this thread's own: %w", err)
	}
	if kind == unix.CLONE_NEWNS { // threads that share their working directory can't
		err = unix.Unshare(unix.CLONE_FS)
	}
	if err == nil {
		err = unix.Setns(fd, kind)
	}
	if err != nil {
		_ = unix.Close(home)
		return 0, err
	}
	return home, nil
}

// onThread runs fn on a locked OS thread and waits. The thread is thrown away
// unless fn says that it is as it was. The main thread is left alone: it is
// what /proc/self shows, and cannot be thrown away.
func onThread(fn func() (clean bool)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // a goroutine that ends locked takes its thread along
		if unix.Gettid() == os.Getpid() {
			onThread(fn)
			runtime.UnlockOSThread()
			return
		}
		if fn() {
			runtime.UnlockOSThread()
		}
	}()
	<-done
}
