// Command hostile is what a container's worst tenant would run. It makes one
// attempt after the other at leaving its container, at harming the host, its
// neighbours and what launched it, and prints a line for each:
//
//	mount a tmpfs: EPERM
//	read another process's memory: ESRCH
//	open a raw socket: DONE
//	write /proc/sys/kernel/core_pattern: DONE (bad)
//
// The outcome is the error that the kernel gave; "contained", with a word,
// where a call succeeds but reaches nothing; DONE where it was done and harms
// nobody (hostile -list says why); and DONE (bad) where it should not have
// been. What would use up memory, processes, descriptors or disk is a
// subcommand each, to be run under limits of its own.
//
// The tests beside it run it in a container of Simian's and in one of Docker's
// (testdata/*.golden), and look whether the host and a second container have
// noticed anything.
//
// An attempt that succeeds where it should not does as little as possible: it
// opens a file and writes nothing, sets a value to what it is. Still it is
// nothing to be run outside of a container: it does nothing where the file
// /hostile is not itself.
package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// What the caller tells by the environment.
const (
	envPID    = "HOSTILE_PID"    // of a process on the host
	envPort   = "HOSTILE_PORT"   // on which something listens on the host's loopback
	envSocket = "HOSTILE_SOCKET" // an abstract UNIX socket on the host
	envShm    = "HOSTILE_SHM"    // key of a shared memory segment on the host
	envCanary = "HOSTILE_CANARY" // a file on the host that nobody may touch
)

// volume is where the caller mounts a folder of the host's.
const volume = "/vol"

func main() {
	if len(os.Args) == 2 && os.Args[1] == "-list" {
		list()
		return
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 1 && args[0] == "euid" {
		os.Exit(unix.Geteuid() & 1)
	}
	if !inContainer() {
		return errors.New("this is no container made for it")
	}
	if len(args) == 0 {
		return errors.New("want attempts, or the name of a bomb")
	}
	if args[0] == "attempts" {
		attack(leaked())
		return nil
	}
	for _, b := range bombs() {
		if b.name == args[0] {
			return b.drop(args[1:])
		}
	}
	return fmt.Errorf("%s: not known", args[0])
}

// inContainer tells whether this program is the image.
func inContainer() bool {
	var own, image unix.Stat_t
	if unix.Stat("/proc/self/exe", &own) != nil || unix.Stat("/hostile", &image) != nil {
		return false
	}
	return own.Dev == image.Dev && own.Ino == image.Ino
}

func attack(leaks []string) {
	for _, a := range attempts(leaks, sameProgram()) {
		fmt.Printf("%s: %s\n", a.name, a.outcome())
	}
}

func list() {
	for _, a := range attempts(nil, true) {
		fmt.Printf("%s: %s\n", a.name, a.harmless)
	}
}
