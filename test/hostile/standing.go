package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// leaked lists what was open when this program started, besides its three
// streams. It must run first: Go opens files of its own later.
func leaked() []string {
	var found []string
	for fd := 3; fd < 1024; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			continue
		}
		link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err == nil && !own(link) {
			found = append(found, link)
		}
	}
	return found
}

// own tells files of Go's runtime: how it waits, and how much of the CPUs it
// may use.
func own(link string) bool {
	return strings.HasPrefix(link, "anon_inode:[event") ||
		strings.HasPrefix(link, "/sys/fs/cgroup/") && strings.HasPrefix(filepath.Base(link), "cpu.")
}

// standing is what it is given: not what it does, but what it could build on.
func standing(leaks []string) []attempt {
	return []attempt{
		{name: "use a file left open", try: func() error {
			if len(leaks) == 0 {
				return contained("none")
			}
			return fmt.Errorf("DONE (bad): %s", strings.Join(leaks, " "))
		}},
		{name: "leave by the working directory", try: leaveByCwd},
		{name: "capabilities", try: func() error { return status("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") }},
		{name: "no_new_privs", try: func() error { return status("NoNewPrivs") }},
		{name: "seccomp mode", try: func() error { return status("Seccomp") }},
		{name: "groups", try: func() error { return status("Groups") }},
		{name: "environment", try: environment},
		{name: "files in /dev", try: func() error { return entries("/dev") }},
		{name: "see another's process", try: others},
		{name: "see where its cgroup lies", try: cgroupPath, harmless: "it is a name only"},
		{name: "have its mounts spread to the host", try: spreadingMounts},
	}
}

// leaveByCwd is CVE-2024-21626: a working directory that lies outside.
func leaveByCwd() error {
	dir, err := unix.Getcwd(make([]byte, 4096))
	_ = dir
	if err != nil {
		return err
	}
	where, err := os.Readlink("/proc/self/cwd")
	if err != nil {
		return err
	}
	if strings.HasPrefix(where, "(unreachable)") {
		return nil
	}
	return upTo("/proc/self/cwd/" + strings.Repeat("../", 40))
}

const ownRoot = "its own root"

// upTo tells whether path is the container's own root.
func upTo(path string) error {
	var above, root unix.Stat_t
	if err := unix.Stat(path, &above); err != nil {
		return err
	}
	if err := unix.Stat("/", &root); err != nil {
		return err
	}
	if above.Dev == root.Dev && above.Ino == root.Ino {
		return contained(ownRoot)
	}
	return nil
}

// status tells fields of /proc/self/status. They are facts, not attempts: the
// golden files hold them.
func status(fields ...string) error {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		for _, f := range fields {
			if f == name {
				found = append(found, name+" "+strings.TrimLeft(strings.TrimSpace(value), "0")+"~")
			}
		}
	}
	return fmt.Errorf("%s", strings.ReplaceAll(strings.ReplaceAll(strings.Join(found, ", "), " ~", " 0"), "~", ""))
}

// entries tells what a folder holds.
func entries(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var found []string
	for _, e := range list {
		found = append(found, e.Name())
	}
	return fmt.Errorf("%s", strings.Join(found, " "))
}

// others looks for processes besides itself and PID 1.
func others() error {
	list, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range list {
		var pid int
		if n, _ := fmt.Sscanf(e.Name(), "%d", &pid); n == 1 && pid != 1 && pid != os.Getpid() {
			return nil
		}
	}
	return contained("none")
}

// environment tells the names that it was given, but for the test's own.
func environment() error {
	var found []string
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); !strings.HasPrefix(name, "HOSTILE_") {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return fmt.Errorf("%s", strings.Join(found, " "))
}

func cgroupPath() error {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(strings.TrimSpace(line), ":/") {
			return nil
		}
	}
	return contained("it is shown /")
}

// spreadingMounts looks for a mount whose changes others would see
// (mount_namespaces(7), SHARED SUBTREES).
func spreadingMounts() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		before, _, _ := strings.Cut(line, " - ")
		if strings.Contains(before, " shared:") {
			return nil
		}
	}
	return contained("none is shared")
}
