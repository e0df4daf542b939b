// Command inside is what the tests of package box launch: it reports what a
// process sees of its container, or does what its first argument says.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		os.Exit(0)
	}
	args := os.Args[2:]
	switch os.Args[1] {
	case "see":
		_ = json.NewEncoder(os.Stdout).Encode(see(args))
	case "exit":
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	case "sleep":
		fmt.Println("up")
		time.Sleep(time.Hour)
	case "signal":
		n, _ := strconv.Atoi(args[0])
		_ = syscall.Kill(os.Getpid(), syscall.Signal(n))
		time.Sleep(time.Second)
	case "catch":
		catch()
	case "device":
		for i, number := range args {
			var major, minor int
			_, _ = fmt.Sscanf(number, "%d:%d", &major, &minor)
			path := fmt.Sprint("/device", i)
			made := syscall.Mknod(path, syscall.S_IFCHR|0o600, major<<8|minor)
			_, err := os.Open(path)
			fmt.Println(number, made, err)
		}
	case "orphaner":
		self, _ := os.Executable()
		_, _ = syscall.ForkExec(self, []string{self}, &syscall.ProcAttr{})
	case "eat":
		eat()
	case "orphan":
		orphan()
	case "write":
		for _, path := range args {
			fmt.Println(path, os.WriteFile(path, []byte("x"), 0o644))
		}
	case "cat":
		for _, path := range args {
			data, err := os.ReadFile(path)
			fmt.Print(string(data))
			if err != nil {
				fmt.Println(err)
			}
		}
	default:
		os.Exit(64)
	}
}

// Report is what see finds.
type Report struct {
	PID, UID, GID int
	Groups        []int
	Hostname, Cwd string
	Args, Env     []string
	Status        map[string]string
	Mounts        []string
	Cgroup        []string
	FDs           []string
	Limits        []string
	Namespaces    map[string]string
	Files         map[string]string // of the paths given
	Dev           []string
	Umask         string
	Session       int
	TTY           bool
}

func see(paths []string) Report {
	r := Report{PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid(), Args: os.Args, Env: os.Environ()}
	r.Groups, _ = os.Getgroups()
	r.Hostname, _ = os.Hostname()
	r.Cwd, _ = os.Getwd()
	r.Status = map[string]string{}
	for _, line := range lines("/proc/self/status") {
		key, value, _ := strings.Cut(line, ":")
		r.Status[key] = strings.TrimSpace(value)
	}
	r.Mounts = lines("/proc/self/mountinfo")
	r.Cgroup = lines("/proc/self/cgroup")
	r.Limits = lines("/proc/self/limits")
	r.FDs = fds()
	r.Namespaces = map[string]string{}
	for _, name := range names("/proc/self/ns") {
		r.Namespaces[name], _ = os.Readlink("/proc/self/ns/" + name)
	}
	r.Dev = devices()
	r.Files = map[string]string{}
	for _, path := range paths {
		r.Files[path] = stat(path)
	}
	sid, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
	r.Session = int(sid)
	tty, err := os.Open("/dev/tty")
	r.TTY = err == nil
	tty.Close()
	r.Umask = r.Status["Umask"]
	return r
}

func lines(path string) []string {
	data, err := os.ReadFile(path)
	if err != nil {
		return []string{err.Error()}
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

func names(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	sort.Strings(list)
	return list
}

// fds are the files it was started with. Those of Go's own are left out: its
// poller, and the CPU limit that it watches.
func fds() []string {
	var list []string
	for _, name := range names("/proc/self/fd") {
		to, err := os.Readlink("/proc/self/fd/" + name)
		own := strings.HasPrefix(to, "anon_inode:[event") || strings.HasPrefix(filepath.Base(to), "cpu.")
		if err == nil && !own {
			list = append(list, name+" "+to)
		}
	}
	return list
}

func devices() []string {
	var list []string
	_ = filepath.WalkDir("/dev", func(path string, d os.DirEntry, err error) error {
		if err == nil {
			list = append(list, path+" "+stat(path))
		}
		return nil
	})
	return list
}

func stat(path string) string {
	info, err := os.Lstat(path)
	if err != nil {
		return err.Error()
	}
	st := info.Sys().(*syscall.Stat_t)
	text := fmt.Sprintf("%s %d:%d", info.Mode(), st.Uid, st.Gid)
	if info.Mode()&os.ModeDevice != 0 {
		text += fmt.Sprintf(" %d,%d", st.Rdev>>8&0xfff, st.Rdev&0xff)
	}
	if to, err := os.Readlink(path); err == nil {
		text += " -> " + to
	}
	return text
}

func catch() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGUSR1)
	fmt.Println("up")
	s := <-c
	fmt.Println(s)
	os.Exit(3)
}

func eat() {
	var all [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = 1
		}
		all = append(all, b)
	}
}

// orphan has a process left behind that ends, and looks whether it is reaped.
func orphan() {
	self, _ := os.Executable()
	pid, err := syscall.ForkExec(self, []string{self, "orphaner"}, &syscall.ProcAttr{})
	fmt.Println(pid > 0, err)
	_, _ = syscall.Wait4(pid, nil, 0, nil)
	left := ""
	for range 50 { // until it is reaped, or never is
		time.Sleep(100 * time.Millisecond)
		if left = zombies(); left == "" {
			break
		}
	}
	fmt.Print(left)
}

func zombies() (list string) {
	for _, name := range names("/proc") {
		if _, err := strconv.Atoi(name); err != nil {
			continue
		}
		for _, line := range lines("/proc/" + name + "/status") {
			if strings.HasPrefix(line, "State:") && strings.Contains(line, "Z") {
				list += "zombie " + name + "\n"
			}
		}
	}
	return list
}
