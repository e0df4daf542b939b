package main

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// netNamespace makes a network namespace in which the loopback is up.
func netNamespace(t *testing.T) *os.File {
	t.Helper()
	made := make(chan any)
	go func() {
		runtime.LockOSThread() // and throw the thread away
		made <- inNewNetwork()
	}()
	switch v := (<-made).(type) {
	case *os.File:
		return v
	default:
		t.Fatal(v)
		return nil
	}
}

func inNewNetwork() any {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up); err != nil {
		return err
	}
	file, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	return file
}
