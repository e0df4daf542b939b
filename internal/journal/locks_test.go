package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

const handle = "process:812:99123"

// newLocks is a lock directory, as root makes it where the test is root.
func newLocks(t *testing.T) *Locks {
	t.Helper()
	dir := t.TempDir()
	return locksAt(t, filepath.Join(dir, "shared/locks"), filepath.Join(dir, "own"))
}

func locksAt(t *testing.T, shared, own string) *Locks {
	t.Helper()
	l, err := NewLocks(shared, own)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// openLocks opens the lock directory dir, whether it is root's or one's own.
func openLocks(dir string) (*Locks, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if st.Sys().(*syscall.Stat_t).Uid == 0 {
		return NewLocks(dir, "/nonexistent")
	}
	return NewLocks(notToBeMade, dir)
}

// notToBeMade is a directory that not even root can make.
const notToBeMade = "/proc/simian/locks"

// again is another process's view of l, as flock tells them apart.
func again(t *testing.T, l *Locks) *Locks {
	t.Helper()
	other, err := openLocks(l.Dir)
	must(t, err)
	t.Cleanup(func() { other.Close() })
	return other
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("left in %s: %v, %v", dir, names, err)
	}
}

func TestLocksBetweenLiveRuns(t *testing.T) {
	t.Parallel()
	a := newLocks(t)
	b := again(t, a)
	state := t.TempDir()
	must(t, a.Acquire("aaaaaa", state, handle))
	must(t, a.Acquire("aaaaaa", state, handle)) // a second step on it
	must(t, a.Acquire("aaaaaa", state, "cgroup:1:/x"))

	start := time.Now()
	err := b.Acquire("bbbbbb", state, handle)
	wantErr(t, err, experiment.ErrBusy)
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("refused after %v", took)
	}
	want := fmt.Sprintf(`^lock process:812:99123: busy: held by run "aaaaaa" \(pid %d, user ".+", since 20.+Z\)$`, os.Getpid())
	if !regexp.MustCompile(want).MatchString(err.Error()) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	wantErr(t, a.Acquire("bbbbbb", state, handle), experiment.ErrBusy) // in one process too

	if left, err := a.Leftovers("aaaaaa"); err != nil || len(left) != 2 || !strings.Contains(strings.Join(left, "\n"), `lock of "process:812:99123": `+a.Dir) {
		t.Errorf("leftovers %q, %v", left, err)
	}
	if left, err := a.Leftovers("bbbbbb"); err != nil || len(left) != 0 {
		t.Errorf("leftovers %q, %v", left, err)
	}
	must(t, b.ReleaseDead("aaaaaa", state)) // it is not dead
	must(t, a.Release("bbbbbb"))
	wantErr(t, b.Acquire("bbbbbb", state, handle), experiment.ErrBusy)
	must(t, a.Release("aaaaaa"))
	wantEmpty(t, a.Dir)
	must(t, b.Acquire("bbbbbb", state, handle))
	must(t, b.Release("bbbbbb"))
	wantEmpty(t, a.Dir)
}

func TestLocksOfADeadRun(t *testing.T) {
	t.Parallel()
	l := newLocks(t)
	s := created(t)
	cmd := holding(t, "acquire", l.Dir, s.Dir(), handle)
	wantErr(t, l.Acquire("bbbbbb", s.Dir(), handle), experiment.ErrBusy)
	must(t, cmd.Process.Kill())
	cmd.Wait()

	// Its journal is open still: what it did to the object stands.
	err := l.Acquire("bbbbbb", s.Dir(), handle)
	wantErr(t, err, experiment.ErrBusy)
	want := `whose process is gone: "` + s.Dir() + `/open/abc234.jsonl" is not taken back yet (simian rollback abc234 does it)`
	if !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got  %v\nwant …%s", err, want)
	}

	t.Run("taken back", func(t *testing.T) {
		must(t, l.ReleaseDead(testRun, t.TempDir())) // of another state directory
		if left, err := l.Leftovers(testRun); err != nil || len(left) != 1 {
			t.Errorf("leftovers %q, %v", left, err)
		}
		must(t, l.ReleaseDead(testRun, s.Dir()+"/"))
		wantEmpty(t, l.Dir)
	})
}

func TestStaleLocksAreFree(t *testing.T) {
	t.Parallel()
	l := newLocks(t)
	state := t.TempDir()
	path := filepath.Join(l.Dir, lockName(handle))
	for name, content := range map[string]string{
		"finished run": `{"handle":"process:812:99123","run":"aaaaaa","stateDir":"` + state + `","pid":1,"user":"x"}`,
		"empty":        "",
		"cut":          `{"handle":"proc`,
		"no run":       `{"run":"../../x","stateDir":"/"}`,
		"no directory": `{"run":"aaaaaa","stateDir":"../x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.WriteFile(path, []byte(content), 0o644))
			must(t, l.Acquire("bbbbbb", state, handle))
			must(t, l.Release("bbbbbb"))
			wantEmpty(t, l.Dir)
		})
	}
}

// A rollback of a run takes its locks over.
func TestLocksOfOneselfAreFree(t *testing.T) {
	t.Parallel()
	l := newLocks(t)
	s := created(t)
	must(t, os.WriteFile(filepath.Join(l.Dir, lockName(handle)), []byte(`{"run":"abc234","stateDir":"`+s.Dir()+`"}`), 0o644))
	must(t, l.Acquire(testRun, s.Dir(), handle))
	must(t, l.Release(testRun))
	wantEmpty(t, l.Dir)
}

// What stands in a lock file is not believed further than it must be.
func TestLockFilesOfOthers(t *testing.T) {
	t.Parallel()
	needRoot(t, "make a lock directory for all")
	state := t.TempDir()
	tests := []struct {
		name string
		make func(path string) error
		want string
	}{
		{"symlink", func(path string) error { return os.Symlink("/etc/passwd", path) }, "too many levels of symbolic links"},
		{"pipe", func(path string) error { return syscall.Mkfifo(path, 0o644) }, "no regular file: remove it"},
		{"directory", func(path string) error { return os.Mkdir(path, 0o755) }, "no regular file: remove it"},
		{"words to fool a terminal", func(path string) error {
			return os.WriteFile(path, []byte(`{"run":"aaaaaa","stateDir":"/dev/null/x","user":"\u001b[2Jroot","pid":1}`), 0o644)
		}, `user "\x1b[2Jroot"`},
		{"a state directory that cannot be looked into", func(path string) error {
			return os.WriteFile(path, []byte(`{"run":"aaaaaa","stateDir":"/dev/null/x"}`), 0o644)
		}, "whether it is taken back cannot be told: not a directory"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := newLocks(t)
			must(t, test.make(filepath.Join(l.Dir, lockName(handle))))
			err := l.Acquire("bbbbbb", state, handle)
			wantErr(t, err, experiment.ErrBusy)
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("got  %q\nwant %q", err, test.want)
			}
			if left, err := l.Leftovers("bbbbbb"); err != nil || len(left) != 0 {
				t.Errorf("leftovers %q, %v", left, err)
			}
		})
	}
	t.Run("another's file does not make residue", func(t *testing.T) {
		l := newLocks(t)
		path := filepath.Join(l.Dir, lockName(handle))
		must(t, os.WriteFile(path, []byte(`{"run":"aaaaaa","stateDir":"`+state+`"}`), 0o644))
		must(t, chown(path))
		if left, err := l.Leftovers("aaaaaa"); err != nil || len(left) != 0 {
			t.Errorf("leftovers %q, %v", left, err)
		}
	})
}

// Somebody may hold the lock of a file that says nothing.
func TestLockHeldByNobodyKnown(t *testing.T) {
	t.Parallel()
	l := newLocks(t)
	f, err := os.Create(filepath.Join(l.Dir, lockName(handle)))
	must(t, err)
	defer f.Close()
	must(t, flockOnce(f, unix.LOCK_EX))
	err = l.Acquire("bbbbbb", t.TempDir(), handle)
	wantErr(t, err, experiment.ErrBusy)
	if !strings.HasSuffix(err.Error(), "is held by somebody who does not say who") {
		t.Errorf("got %v", err)
	}
}

func TestLockDirectory(t *testing.T) {
	t.Parallel()
	needRoot(t, "make a lock directory for all")
	l := newLocks(t)
	st, err := os.Stat(l.Dir)
	must(t, err)
	if st.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("mode %v", st.Mode())
	}
	must(t, l.Acquire("aaaaaa", "/s", handle))
	st, err = os.Stat(filepath.Join(l.Dir, lockName(handle)))
	must(t, err)
	if st.Mode() != 0o644 {
		t.Errorf("lock file: mode %v", st.Mode())
	}
	for name, spoil := range map[string]func(string) error{"not sticky": chmod(0o777), "of another": chown} {
		dir := t.TempDir()
		must(t, spoil(dir))
		_, err := NewLocks(dir, t.TempDir())
		var trust *TrustError
		if !errors.As(err, &trust) || !strings.Contains(err.Error(), "others than root can remove files in it") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// Where it cannot be made, the user's own is taken.
	own := filepath.Join(t.TempDir(), "locks")
	if l := locksAt(t, notToBeMade, own); l.Dir != own {
		t.Errorf("locks are in %s", l.Dir)
	}
}

// A user shares the directory that root has made, and cannot remove root's.
func TestLocksBetweenUsers(t *testing.T) {
	t.Parallel()
	needRoot(t, "make a lock directory for all")
	// Others must be able to reach it, as /run can be.
	base, err := os.MkdirTemp("/tmp", "simian-locks-test-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	must(t, os.Chmod(base, 0o755))
	l := locksAt(t, filepath.Join(base, "run/locks"), "/nonexistent")
	self, err := os.Executable()
	must(t, err)
	binary, err := os.ReadFile(self)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(base, "test"), binary, 0o755))

	asNobody := func() *exec.Cmd {
		cmd := child(t, "acquire", l.Dir, "/nonexistent", handle)
		cmd.Path, cmd.Args[0] = filepath.Join(base, "test"), filepath.Join(base, "test")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return cmd
	}
	must(t, l.Acquire("aaaaaa", "/nonexistent", handle))
	out, err := asNobody().Output()
	if err == nil || !strings.Contains(string(out), `busy: held by run "aaaaaa"`) {
		t.Errorf("while root has it: %s, %v", out, err)
	}
	must(t, l.Release("aaaaaa"))
	out, err = asNobody().Output() // standard input is empty: it ends at once
	if string(out) != "ready\n" || err != nil {
		t.Errorf("when it is free: %s, %v", out, err)
	}
	// It ended without giving it up; its run is in no state directory.
	must(t, l.Acquire("aaaaaa", "/nonexistent", handle))
	must(t, l.Release("aaaaaa"))
	wantEmpty(t, l.Dir)
}

// contend takes and gives up one handle again and again, and fails if another
// has it at the same time.
func contend(l *Locks, state, scratch string, run experiment.RunID, rounds int) error {
	inside := filepath.Join(scratch, "inside")
	for done := 0; done < rounds; {
		err := l.Acquire(run, state, handle)
		if errors.Is(err, experiment.ErrBusy) {
			continue
		}
		if err != nil {
			return err
		}
		f, err := os.OpenFile(inside, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("two have the lock: %w", err)
		}
		time.Sleep(200 * time.Microsecond)
		if err := errors.Join(f.Close(), os.Remove(inside), l.Release(run)); err != nil {
			return err
		}
		done++
	}
	return nil
}

// The classic race: one removes the file that another has just locked.
func TestUnlinkRace(t *testing.T) {
	t.Parallel()
	l := newLocks(t)
	state, scratch := t.TempDir(), t.TempDir()
	var all sync.WaitGroup
	for i := range 3 {
		cmd := child(t, "race", l.Dir, state, scratch, fmt.Sprintf("child%c", 'a'+i), "40")
		all.Go(func() { output(t, cmd) })
	}
	for i := range 8 {
		mine := again(t, l)
		all.Go(func() {
			if err := contend(mine, state, scratch, experiment.RunID(fmt.Sprintf("local%c", 'a'+i)), 20); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	wantEmpty(t, l.Dir)
	wantEmpty(t, scratch)
}

func BenchmarkAcquireRelease(b *testing.B) {
	dir := b.TempDir()
	l, err := NewLocks(filepath.Join(dir, "shared/locks"), filepath.Join(dir, "own"))
	must(b, err)
	for b.Loop() {
		must(b, l.Acquire("aaaaaa", dir, handle))
		must(b, l.Release("aaaaaa"))
	}
}

// A process may die between making its lock file and writing its name: what it
// left is removed, but not while somebody has it locked.
func TestNamelessLockFile(t *testing.T) {
	t.Parallel()
	l := newLocks(t)
	left, held := filepath.Join(l.Dir, lockName("process:1:1")), filepath.Join(l.Dir, lockName("process:2:2"))
	for _, path := range []string{left, held} {
		must(t, os.WriteFile(path, nil, 0o644))
	}
	f, err := os.Open(held)
	must(t, err)
	defer f.Close()
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	must(t, l.ReleaseDead("aaaaaa", t.TempDir()))
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the nameless file is still there (%v)", err)
	}
	if _, err := os.Stat(held); err != nil {
		t.Errorf("the one that is held is gone: %v", err)
	}
}
