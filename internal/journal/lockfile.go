package journal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

const lockSuffix = ".lock"

// owner is what stands in a lock file. It may have been written by anybody.
type owner struct {
	Handle   string           `json:"handle"`
	Run      experiment.RunID `json:"run"`
	StateDir string           `json:"stateDir"`
	PID      int              `json:"pid"`
	User     string           `json:"user"`
	Since    time.Time        `json:"since"`
}

// String names the owner for a person.
func (o owner) String() string {
	return fmt.Sprintf("run %q (pid %d, user %q, since %s)", string(o.Run), o.PID, o.User, o.Since.Format(time.RFC3339))
}

func lockName(handle string) string {
	sum := sha256.Sum256([]byte(handle))
	return hex.EncodeToString(sum[:16]) + lockSuffix
}

// takeFor is how long take tries against others that come and go.
const takeFor = 2 * time.Second

// errAgain says that somebody else was quicker: look again.
var errAgain = errors.New("others come and go")

// take makes the lock file, or removes one that is free and then makes it.
func (l *Locks) take(me owner) (*os.File, error) {
	name := lockName(me.Handle)
	for end := time.Now().Add(takeFor); ; {
		f, err := l.make(name, me)
		if errors.Is(err, unix.EEXIST) {
			if err = l.clear(name, me); err == nil {
				continue
			}
		}
		if !errors.Is(err, errAgain) {
			return f, err
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%w: %s is held by somebody who does not say who", experiment.ErrBusy, l.dir.path(name))
		}
		time.Sleep(pollEvery)
	}
}

// make makes the lock file and fills it. Until it is locked somebody else may
// take it for one that was left empty, and remove it.
func (l *Locks) make(name string, me owner) (*os.File, error) {
	fd, err := openat(int(l.dir.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o644)
	if errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: l.dir.path(name), Err: err}
	}
	f := os.NewFile(uintptr(fd), l.dir.path(name))
	if l.claim(name, f) != nil {
		f.Close()
		return nil, errAgain
	}
	line, err := json.Marshal(me)
	if err == nil {
		_, err = f.Write(append(line, '\n'))
	}
	if err == nil {
		err = f.Chmod(0o644) // whatever the umask: others must be able to lock it
	}
	if err != nil {
		return nil, errors.Join(err, l.drop(name, f))
	}
	return f, nil
}

// clear removes the lock file if it is free; it gives experiment.ErrBusy if
// not.
func (l *Locks) clear(name string, me owner) error {
	f, err := l.openFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return errAgain
	}
	if err != nil {
		return fmt.Errorf("%w: %w", experiment.ErrBusy, err)
	}
	if err := l.claim(name, f); err != nil {
		o, readErr := readOwner(f)
		f.Close()
		if errors.Is(err, errAgain) || readErr != nil {
			return errAgain // it is being made, or gone
		}
		return fmt.Errorf("%w: held by %s", experiment.ErrBusy, o)
	}
	o, err := readOwner(f)
	if err == nil && (o.Run != me.Run || o.StateDir != me.StateDir) {
		if why := unfinished(o); why != "" {
			unlock(f)
			return fmt.Errorf("%w: held by %s, whose process is gone: %s", experiment.ErrBusy, o, why)
		}
	}
	if err := l.drop(name, f); err != nil {
		return fmt.Errorf("%w: left by %s: %w", experiment.ErrBusy, o, err)
	}
	return nil
}

// claimFor is how long claim asks: others take the flock of a free lock file
// for some microseconds to look at it.
const claimFor = 5 * time.Millisecond

// claim takes the flock on f, and checks that name is still this file: a file
// is removed only while its flock is held, so that it is then nobody else's.
// It gives errAgain where it is not.
func (l *Locks) claim(name string, f *os.File) error {
	ctx, cancel := context.WithTimeout(context.Background(), claimFor)
	defer cancel()
	if err := flock(ctx, f, unix.LOCK_EX); err != nil {
		return err
	}
	if !l.dir.holds(name, f) {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		return errAgain
	}
	return nil
}

// drop removes the lock file f, whose flock is held, and gives it up.
func (l *Locks) drop(name string, f *os.File) error {
	defer unlock(f)
	if !l.dir.holds(name, f) {
		return nil // somebody has removed it already
	}
	return l.dir.remove(name)
}

// openFile opens a lock file, whoever it belongs to. In a sticky directory
// another's file may not be opened with O_CREAT (fs.protected_regular).
func (l *Locks) openFile(name string) (*os.File, error) {
	fd, err := openat(int(l.dir.Fd()), name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: l.dir.path(name), Err: err}
	}
	f := os.NewFile(uintptr(fd), l.dir.path(name))
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: f.Name(), Err: errors.New("it is no regular file: remove it")}, err, f.Close())
	}
	return f, nil
}

// mine tells whether f is the effective user's: anybody can name any run.
func mine(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && int(st.Uid) == os.Geteuid()
}

// readOwner reads who a lock file says has it.
func readOwner(f *os.File) (owner, error) {
	data := make([]byte, 4<<10)
	n, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return owner{}, err
	}
	var o owner
	if err := json.Unmarshal(data[:n], &o); err != nil {
		return owner{}, fmt.Errorf("read lock file %s: %w", f.Name(), err)
	}
	if checkRun(o.Run) != nil || !filepath.IsAbs(o.StateDir) {
		return owner{}, fmt.Errorf("read lock file %s: it names no run", f.Name())
	}
	return o, nil
}

// isEmpty tells whether nobody's name stands in the lock file.
func isEmpty(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Size() == 0
}

// unfinished says why the run of a dead owner counts as not taken back, ""
// where it is. A state directory that cannot be looked into counts too.
func unfinished(o owner) string {
	path := filepath.Join(filepath.Clean(o.StateDir), "open", fileName(o.Run))
	switch err := lstatWithin(path, time.Second); {
	case err == nil:
		return fmt.Sprintf("%q is not taken back yet (simian rollback %s does it)", path, o.Run)
	case errors.Is(err, fs.ErrNotExist):
		return ""
	default:
		return fmt.Sprintf("whether it is taken back cannot be told: %v", plain(err))
	}
}

// lstatWithin does not wait for long: the path comes from a file that any
// user may have written, and may lead to a file system that hangs.
func lstatWithin(path string, limit time.Duration) error {
	result := make(chan error, 1)
	go func() {
		_, err := os.Lstat(path)
		result <- err
	}()
	select {
	case err := <-result:
		return err
	case <-time.After(limit):
		return fmt.Errorf("look at %q: %w", path, os.ErrDeadlineExceeded)
	}
}
