package main

import (
	"errors"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attempt is one thing that an attacker tries.
type attempt struct {
	name     string
	try      func() error // nil: it was done
	harmless string       // why it may be done; "" where it may not
}

// contained is the outcome of what succeeds, but reaches nothing outside.
type contained string

func (c contained) Error() string { return "contained (" + string(c) + ")" }

func (a attempt) outcome() string {
	err := a.try()
	var errno unix.Errno
	switch {
	case err == nil && a.harmless != "":
		return "DONE"
	case err == nil:
		return "DONE (bad)"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// attempts lists them all, in the order they are made. The last ones end what
// they can reach. Tenant says that PID 1 is no more than this program is.
func attempts(leaks []string, tenant bool) []attempt {
	return slices.Concat(
		standing(leaks), settings(), controlGroups(), mounts(), paths(), devices(),
		processes(), first(tenant), privileges(), namespaces(), kernel(), oldCalls(), clocks(), network(), signals(),
	)
}

// call is an attempt that is a single system call.
func call(name string, number uintptr, args ...uintptr) attempt {
	return attempt{name: name, try: func() error { return raw(number, args...) }}
}

func raw(number uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	_, _, errno := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		return errno
	}
	return nil
}

// text gives a system call a string. It is mapped memory, which stays where it
// is: nothing but a number refers to it.
func text(s string) uintptr {
	b, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0
	}
	copy(b, s)
	return uintptr(unsafe.Pointer(&b[0]))
}

// opens is an attempt to open a file. Nothing is read or written: with most
// files of /proc and /sys, opening is where the kernel refuses.
func opens(path string, flags int) attempt {
	verb := "read "
	if flags&unix.O_ACCMODE != unix.O_RDONLY {
		verb = "write "
	}
	return attempt{name: verb + path, try: func() error { return open(path, flags) }}
}

func open(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func writes(paths ...string) []attempt {
	out := make([]attempt, len(paths))
	for i, path := range paths {
		out[i] = opens(path, unix.O_WRONLY)
	}
	return out
}

// shows is an attempt to see what a masked file or folder holds.
func shows(path string) attempt {
	return attempt{name: "read " + path, try: func() error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		buf := make([]byte, 4096)
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EISDIR) {
			n, err = unix.ReadDirent(fd, buf)
			n = len(strings.Join(names(buf[:max(n, 0)]), ""))
		}
		if err == nil && n == 0 {
			return contained("empty")
		}
		return err
	}}
}

func names(dirents []byte) []string {
	_, _, found := unix.ParseDirent(dirents, -1, nil)
	return found
}
