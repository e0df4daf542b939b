package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The names under which this binary plays somebody else.
const (
	roleVictim = "soak-victim" // TAG CGROUP,… FORK: has threads, and may fork; breaks nothing, is broken
	roleChild  = "soak-child"  // lives for a moment
	roleShell  = "soak-shell"  // MODE COMMAND…: starts a command on its terminal, and waits
	roleEnter  = "soak-enter"  // CGROUP.PROCS COMMAND…: becomes the command, in a cgroup
	roleHang   = "soak-hang"   // a probe's command that does not end

	roleBox     = "soak-box"     // WHAT…: the program of a container
	roleOnce    = "soak-once"    // that of one which ends
	roleHealthy = "soak-healthy" // the health check of the first
	roleOrphan  = "soak-orphan"  // leaves a child behind

	roleNear = "soak-near" // TAG: asks over a wire
	roleFar  = "soak-far"  // TAG: answers
)

// none stands for an argument that is left out.
const none = "-"

// playRole plays the role that the arguments name, by argv[0] or, where that
// cannot be chosen, by the first argument.
func playRole(args []string) (code int, ok bool) {
	roles := map[string]func([]string) error{
		roleVictim: victim, roleChild: child, roleShell: shell, roleEnter: enter, roleHang: hang,
		roleBox: box, roleOnce: once, roleHealthy: healthy, roleOrphan: orphan,
		roleNear: near, roleFar: far,
	}
	play, ok := roles[args[0]]
	if !ok && len(args) > 1 {
		args = args[1:]
		play, ok = roles[args[0]]
	}
	if !ok {
		return 0, false
	}
	if err := play(args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, args[0]+": "+err.Error())
		return 1, true
	}
	return 0, true
}

// role returns this binary in a role. It dies with this process.
func role(args ...string) *exec.Cmd {
	return &exec.Cmd{
		Path: "/proc/self/exe", Args: args, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
}

// victim moves into its cgroups, says that it is ready and lives on: two more
// threads that work, and a child now and then.
func victim(args []string) error {
	if args[1] != none {
		for dir := range strings.SplitSeq(args[1], ",") {
			if err := os.WriteFile(filepath.Join(dir, procsFile), []byte("0"), 0); err != nil {
				return err
			}
		}
	}
	for range 2 {
		go work()
	}
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		return err
	}
	for {
		time.Sleep(40 * time.Millisecond)
		if args[2] == "fork" {
			_ = role(roleChild).Run()
		}
	}
}

// work keeps a thread of its own busy, a little.
func work() {
	runtime.LockOSThread()
	for {
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil)
	}
}

func child([]string) error {
	time.Sleep(20 * time.Millisecond)
	return nil
}

func hang([]string) error {
	time.Sleep(time.Hour)
	return nil
}

// enter moves this process into a cgroup, and becomes the command there.
func enter(args []string) error {
	if err := os.WriteFile(args[0], []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return err
	}
	return syscall.Exec(args[1], args[1:], os.Environ())
}

// How a shell starts a command.
const (
	sameGroup  = "same-group" // as without job control
	foreground = "foreground" // in the terminal's foreground group, as with it
	background = "background" // with & behind it
)

// shell is the leader of a session whose terminal is its standard input.
func shell(args []string) error {
	c := &exec.Cmd{Path: args[1], Args: args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	switch args[0] {
	case foreground:
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Foreground: true, Ctty: 0}
	case background:
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	return c.Run()
}
