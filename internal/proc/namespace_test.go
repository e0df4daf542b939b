package proc

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespaces runs a sleep in fresh namespaces until the test ends.
func inNamespaces(t *testing.T, flags uintptr) int {
	t.Helper()
	needRoot(t)
	cmd := exec.Command("sleep", "300")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// netOfThread returns the network namespace of the thread that calls it.
func netOfThread(t *testing.T) uint64 {
	t.Helper()
	inode, err := inodeOf("/proc/thread-self/ns/net")
	if err != nil {
		t.Error(err)
	}
	return inode
}

func TestDo(t *testing.T) {
	t.Parallel()
	pid := inNamespaces(t, syscall.CLONE_NEWNET)
	ns, err := Host().Namespace(pid, "net")
	if err != nil {
		t.Fatal(err)
	}
	home := netOfThread(t)
	if home == ns.Inode {
		t.Fatal("the namespace is not a fresh one")
	}
	wrong := errors.New("wrong")
	err = Do(Host().path(pid, "ns", "net"), func() error {
		if netOfThread(t) != ns.Inode {
			t.Error("not in the namespace")
		}
		if unix.Gettid() == os.Getpid() {
			t.Error("on the main thread")
		}
		return wrong
	})
	if err != wrong {
		t.Errorf("error of the function: %v", err)
	}
	if err := Do(Host().path(pid, "ns", "none"), func() error { t.Error("ran"); return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := Do("/proc/self/stat", func() error { t.Error("ran"); return nil }); err == nil {
		t.Error("entered a file that is no namespace")
	}
	if err := Do(Host().path(pid, "ns", "net"), func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("no error from a function that ended its goroutine")
	}
}

// TestDoLeavesNoThreadBehind enters from many goroutines at once, and looks
// then whether any thread of this process is elsewhere.
func TestDoLeavesNoThreadBehind(t *testing.T) {
	pid := inNamespaces(t, syscall.CLONE_NEWNET|syscall.CLONE_NEWNS|syscall.CLONE_NEWPID)
	var all sync.WaitGroup
	for i := range 60 {
		kind := []string{"net", "mnt", "pid"}[i%3]
		all.Go(func() {
			if err := Do(Host().path(pid, "ns", kind), func() error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, kind := range []string{"net", "mnt", "pid_for_children"} {
		await(t, func() bool { // a thread takes a moment to end
			home, _ := inodeOf("/proc/self/ns/" + kind)
			threads, _ := filepath.Glob("/proc/self/task/*/ns/" + kind)
			for _, thread := range threads {
				if inode, err := inodeOf(thread); err == nil && inode != home {
					return false
				}
			}
			return len(threads) > 0
		})
	}
}

// TestThreadThatCannotGoBack takes the capability away that the thread needs
// to return: it must end, not run another goroutine.
func TestThreadThatCannotGoBack(t *testing.T) {
	pid := inNamespaces(t, syscall.CLONE_NEWNET)
	tid := 0
	err := Do(Host().path(pid, "ns", "net"), func() error {
		tid = unix.Gettid()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		return unix.Capset(&header, &none[0]) // of this thread only
	})
	if err != nil {
		t.Fatal(err)
	}
	await(t, func() bool {
		_, err := os.Stat("/proc/self/task/" + strconv.Itoa(tid))
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestDoInMountNamespace(t *testing.T) {
	t.Parallel()
	pid := inNamespaces(t, syscall.CLONE_NEWNS)
	ns, err := Host().Namespace(pid, "mnt")
	if err != nil {
		t.Fatal(err)
	}
	err = Do(Host().path(pid, "ns", "mnt"), func() error {
		inode, err := inodeOf("/proc/thread-self/ns/mnt")
		if inode != ns.Inode {
			t.Error("not in the namespace")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func BenchmarkDo(b *testing.B) {
	for b.Loop() {
		if err := Do("/proc/self/ns/net", func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
