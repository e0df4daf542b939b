package main

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// target is the process on the host that the caller named.
func target() int {
	pid, _ := strconv.Atoi(os.Getenv(envPID))
	return pid
}

// processes are others' processes.
func processes() []attempt {
	return []attempt{
		{name: "trace a process of the host", try: func() error { return raw(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(target()), 0, 0) }},
		{name: "read another process's memory", try: func() error {
			b := make([]byte, 8)
			local := unix.Iovec{Base: &b[0], Len: 8}
			_, err := unix.ProcessVMReadv(target(), []unix.Iovec{local}, []unix.RemoteIovec{{Base: 1 << 22, Len: 8}}, 0)
			return err
		}},
		{name: "signal a process of the host", try: func() error { return unix.Kill(target(), 0) }},
		{name: "hold a process of the host", try: func() error { _, err := unix.PidfdOpen(target(), 0); return err }},
		{name: "take a file from PID 1", try: func() error {
			fd, err := unix.PidfdOpen(1, 0)
			if err != nil {
				return err
			}
			_, err = unix.PidfdGetfd(fd, 0, 0)
			return err
		}},
		{name: "be in the process group of what launched it", try: func() error { return inside(unix.Getpgrp()) }},
		{name: "be in the session of what launched it", try: func() error { sid, _ := unix.Getsid(0); return inside(sid) }},
		{name: "set a process of the host back", try: func() error { return unix.Setpriority(unix.PRIO_PROCESS, target(), 19) }},
		{name: "move a process of the host to a CPU", try: func() error {
			var set unix.CPUSet
			set.Set(0)
			return unix.SchedSetaffinity(target(), &set)
		}},
		{name: "share a memory segment with the host", try: func() error {
			key, _ := strconv.Atoi(os.Getenv(envShm))
			_, err := unix.SysvShmGet(key, 1, 0)
			return err
		}},
	}
}

// first are attempts on PID 1, which is a tenant of the container like itself,
// or a reaper of what launched it.
func first(tenant bool) []attempt {
	why := ""
	if tenant {
		why = "PID 1 is the container's own program"
	}
	return []attempt{
		opens("/proc/1/mem", unix.O_RDWR).because(why),
		opens("/proc/1/fd/0", unix.O_WRONLY).because(why),
		opens("/proc/1/environ", unix.O_RDONLY).because(why),
		opens("/proc/1/exe", unix.O_WRONLY),
		call("trace PID 1", unix.SYS_PTRACE, unix.PTRACE_SEIZE, 1, 0, 0).because(why),
	}
}

func sameProgram() bool {
	first, err1 := os.Stat("/proc/1/exe")
	own, err2 := os.Stat("/proc/self/exe")
	return err1 == nil && err2 == nil && os.SameFile(first, own)
}

// inside tells whether a process group or session has a number here. It is 0
// where it belongs to an outer PID namespace: kill(0, …) reaches that.
func inside(id int) error {
	if id == 0 {
		return nil
	}
	return contained("its own")
}

// privileges are what it would gain.
func privileges() []attempt {
	return []attempt{
		{name: "take CAP_SYS_ADMIN", try: takeCapability},
		{name: "take it by a file", try: func() error { return asFile(capabilityFile) }},
		{name: "become root by a set-user-ID program", try: func() error { return asFile(suidFile) }, harmless: "it is root in the container only"},
		{name: "raise its limit of files", try: func() error { return raise(unix.RLIMIT_NOFILE) }},
		{name: "nice -20", try: func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -20) }},
		{name: "run in real time", try: func() error {
			return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: 1, Priority: 1}, 0)
		}},
		{name: "read and write before all others", try: func() error { return raw(unix.SYS_IOPRIO_SET, 1, 0, 1<<13) }},
	}
}

func takeCapability() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Permitted |= 1 << unix.CAP_SYS_ADMIN
	data[0].Effective |= 1 << unix.CAP_SYS_ADMIN
	return unix.Capset(&header, &data[0])
}

// asFile runs a copy of this program that prepare has made privileged, as an
// ordinary user. Its exit code tells whether it became root.
func asFile(prepare func(path string) error) error {
	const path = "/privileged"
	program, err := os.ReadFile("/hostile")
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(path, program, 0o755), os.Chmod(path, 0o755), prepare(path)); err != nil {
		return err
	}
	defer os.Remove(path)
	cmd := exec.Command(path, "euid")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1001, Gid: 1001}}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return contained("still an ordinary user")
	}
	return err
}

func suidFile(path string) error { return unix.Chmod(path, 0o4755) }

// capabilityFile gives a file CAP_SYS_ADMIN, effective (capabilities(7)).
func capabilityFile(path string) error {
	const revision2, effective = 0x02000000, 1
	value := make([]byte, 20)
	*(*uint32)(unsafe.Pointer(&value[0])) = revision2 | effective
	*(*uint32)(unsafe.Pointer(&value[4])) = 1 << unix.CAP_SYS_ADMIN
	return unix.Setxattr(path, "security.capability", value, 0)
}

func raise(resource int) error {
	var l unix.Rlimit
	if err := unix.Prlimit(0, resource, nil, &l); err != nil {
		return err
	}
	l.Max++
	return unix.Prlimit(0, resource, &l, nil)
}

// namespaces are new ones, in which it would have all capabilities, and those
// of others.
func namespaces() []attempt {
	kinds := []struct {
		name string
		flag uintptr
	}{
		{"a user", unix.CLONE_NEWUSER},
		{"a mount", unix.CLONE_NEWNS},
		{"a PID", unix.CLONE_NEWPID},
		{"a network", unix.CLONE_NEWNET},
		{"an IPC", unix.CLONE_NEWIPC},
		{"a UTS", unix.CLONE_NEWUTS},
		{"a cgroup", unix.CLONE_NEWCGROUP},
		{"a time", unix.CLONE_NEWTIME},
	}
	var out []attempt
	for _, k := range kinds {
		out = append(out, attempt{name: "unshare " + k.name + " namespace", try: func() error { return unshare(k.flag) }})
	}
	return append(out,
		attempt{name: "clone into a user namespace", try: func() error { return clone(unix.CLONE_NEWUSER) }},
		attempt{name: "clone into a mount namespace", try: func() error { return clone(unix.CLONE_NEWNS) }},
		call("clone3", unix.SYS_CLONE3, 0, 0),
		attempt{name: "enter a namespace (setns)", try: func() error {
			fd, err := unix.Open("/proc/1/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Setns(fd, 0)
		}},
	)
}

func unshare(flag uintptr) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and throw the thread away
		done <- raw(unix.SYS_UNSHARE, flag)
	}()
	return <-done
}

// clone forks a child that ends at once.
func clone(flag uintptr) error {
	pid, _, errno := unix.RawSyscall(unix.SYS_CLONE, flag|uintptr(unix.SIGCHLD), 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	_, err := unix.Wait4(int(pid), nil, 0, nil)
	return err
}

// signals come last: they end what they reach. PID 1 itself is exempt from
// them, in its own namespace.
func signals() []attempt {
	return []attempt{
		{name: "kill every process", try: func() error { return unix.Kill(-1, unix.SIGKILL) }, harmless: "it can only be its own"},
		{name: "kill PID 1", try: func() error {
			if err := unix.Kill(1, unix.SIGKILL); err != nil {
				return err
			}
			return contained("still alive")
		}},
		{name: "kill its parent", try: func() error {
			parent := unix.Getppid()
			if parent == 0 {
				return contained("pid 0 is none")
			}
			if err := unix.Kill(parent, unix.SIGKILL); err != nil {
				return err
			}
			return contained("still alive")
		}},
	}
}
