package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// world is the host, with something in it for each attempt to reach.
type world struct {
	folder, canary, volume string
	process                *exec.Cmd
	listener               net.Listener
	socket                 string
	shm                    int
	key                    int
	before                 map[string]string
}

const keyAllOfUser = 0x3f3f0000 // KEY_POS_ALL, KEY_USR_ALL (keyctl_setperm(3))

const secret = "the canary sings\n"

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{folder: filepath.Join(t.TempDir(), "host"), volume: t.TempDir(), socket: fmt.Sprintf("simian-hostile-%d", os.Getpid())}
	w.canary = filepath.Join(w.folder, "canary")
	w.must(t, os.Mkdir(w.folder, 0o755))
	w.must(t, os.WriteFile(w.canary, []byte(secret), 0o600))
	w.process = exec.Command("sleep", "3600")
	w.must(t, w.process.Start())
	t.Cleanup(func() { _ = w.process.Process.Kill(); _ = w.process.Wait() })
	w.listen(t)
	w.shareMemory(t)
	w.keepKey(t)
	w.before = w.state(t)
	return w
}

func (w *world) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listen opens what the containers must not reach.
func (w *world) listen(t *testing.T) {
	t.Helper()
	var err error
	w.listener, err = net.Listen("tcp", "127.0.0.1:0")
	w.must(t, err)
	abstract, err := net.Listen("unix", "@"+w.socket)
	w.must(t, err)
	t.Cleanup(func() { w.listener.Close(); abstract.Close() })
}

func (w *world) shareMemory(t *testing.T) {
	t.Helper()
	w.shm = 0x51a0000 + os.Getpid()
	id, err := unix.SysvShmGet(w.shm, 4096, unix.IPC_CREAT|unix.IPC_EXCL|0o666)
	w.must(t, err)
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
}

// keepKey puts a key into root's keyring, which is one for all of root's
// processes (user-keyring(7)). A host without keyrings has none to share.
func (w *world) keepKey(t *testing.T) {
	t.Helper()
	key, err := unix.AddKey("user", "simian-canary", []byte(secret), unix.KEY_SPEC_USER_KEYRING)
	if err != nil {
		t.Logf("no key: %v", err)
		return
	}
	w.key = key
	w.must(t, unix.KeyctlSetperm(key, keyAllOfUser))
	t.Cleanup(func() { _, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, key, unix.KEY_SPEC_USER_KEYRING, 0, 0) })
}

// env is what the program is told.
func (w *world) env() []string {
	_, port, _ := net.SplitHostPort(w.listener.Addr().String())
	return []string{
		envPID + "=" + strconv.Itoa(w.process.Process.Pid), envPort + "=" + port, envSocket + "=" + w.socket,
		envShm + "=" + strconv.Itoa(w.shm), envCanary + "=" + w.canary,
	}
}

// unharmed holds the host against what it was.
func (w *world) unharmed(t *testing.T) {
	t.Helper()
	if diff := cmp.Diff(w.before, w.state(t)); diff != "" {
		t.Fatalf("the host has changed (-before +after)\n%s", diff)
	}
}

// state is what an attack would change.
func (w *world) state(t *testing.T) map[string]string {
	t.Helper()
	s := map[string]string{"mounts": w.mounts(t), "cgroups": cgroups(), "key": w.readKey(), "clock": wallClock(t)}
	for _, name := range []string{
		"kernel/core_pattern", "kernel/modprobe", "kernel/hostname", "kernel/domainname", "kernel/sysrq", "kernel/panic",
		"kernel/randomize_va_space", "kernel/shmmax", "kernel/printk", "vm/overcommit_memory", "fs/file-max", "fs/protected_hardlinks",
		"net/ipv4/ip_forward", "user/max_user_namespaces",
	} {
		text, _ := os.ReadFile("/proc/sys/" + name) // "" where this kernel has none
		s[name] = string(text)
	}
	text, err := os.ReadFile(w.canary)
	w.must(t, err)
	s["canary"] = string(text)
	s["folder"] = listing(t, w.folder)
	s["process"] = fmt.Sprint(unix.Kill(w.process.Process.Pid, 0))
	s["process is stopped"] = w.stopped(t)
	passwd, err := os.Stat("/etc/passwd")
	w.must(t, err)
	s["/etc/passwd"] = fmt.Sprint(passwd.Size(), passwd.ModTime())
	return s
}

// stopped tells whether the process on the host runs no more, or is traced.
func (w *world) stopped(t *testing.T) string {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.process.Process.Pid))
	w.must(t, err)
	return fmt.Sprint(strings.ContainsAny(strings.Fields(string(stat))[2], "TtZXD"))
}

// mounts are those of the host that a container of these tests has to do with.
func (w *world) mounts(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	w.must(t, err)
	var found []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, filepath.Dir(w.folder)) || strings.Contains(line, "hostile") {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}

// cgroups are those that a container would have made outside of its own.
func cgroups() string {
	v1, _ := filepath.Glob("/sys/fs/cgroup/*/hostile") // the patterns are well-formed
	v2, _ := filepath.Glob("/sys/fs/cgroup/hostile")
	return strings.Join(append(v1, v2...), " ")
}

func (w *world) readKey() string {
	if w.key == 0 {
		return ""
	}
	payload := make([]byte, len(secret))
	_, err := unix.KeyctlBuffer(unix.KEYCTL_READ, w.key, payload, 0)
	return fmt.Sprint(string(payload), err)
}

// wallClock is how far the wall clock is from the time since boot, to within
// some seconds.
func wallClock(t *testing.T) string {
	t.Helper()
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		t.Fatal(err)
	}
	return time.Now().Add(-time.Duration(boot.Nano())).Round(time.Minute).UTC().Format(time.DateTime)
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Type().String()+e.Name())
	}
	return strings.Join(names, " ")
}
