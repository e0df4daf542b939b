package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// SharedLocks is the directory in which all users of a machine keep their
// locks on what runs change. Only root can make it.
const SharedLocks = "/run/simian/locks"

// Locks keeps two runs from changing one object (a process, a cgroup, a
// namespace) at the same time. A lock is a file named for the object's
// handle; it is held while its owner lives, by flock(2), and after its
// owner's death for as long as the run that it names is not taken back. Only
// a file's owner can write it, and all can lock it.
//
// Like any lock file that others may open, it can be held by somebody who
// means harm. That keeps runs from starting, and no more.
type Locks struct {
	Dir string // absolute

	dir  *folder
	user string // who this process is
	mu   sync.Mutex
	held map[experiment.RunID]map[string]*os.File // by handle
}

// NewLocks opens the lock directory at shared, which root makes, with mode
// 1777. Where it is missing and cannot be made, as for a user on a machine on
// which root has not run Simian since it booted, the locks are kept in own,
// which is the user's: they then hold between that user's runs only.
func NewLocks(shared, own string) (*Locks, error) {
	d, err := sharedFolder(shared)
	if err != nil {
		return nil, err
	}
	if d == nil {
		if d, err = openFolder(own, true); err != nil {
			return nil, err
		}
	}
	return &Locks{Dir: d.Name(), dir: d, user: userName(), held: map[experiment.RunID]map[string]*os.File{}}, nil
}

// userName names the effective user for others who wait.
func userName() string {
	if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Geteuid())
}

// sharedFolder opens the directory for all users, nil where it cannot be
// had. It is refused where somebody but root could remove others' files.
func sharedFolder(path string) (*folder, error) {
	fd, err := openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) && makeShared(path) == nil {
		fd, err = openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	}
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open lock directory", Path: path, Err: err}
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Uid == 0 && os.Geteuid() == 0 && st.Mode&0o022 == 0 {
		err = unix.Fchmod(fd, 0o1777) // its maker was killed before it did
	}
	if err == nil && (st.Uid != 0 || st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0) {
		err = &TrustError{path, "others than root can remove files in it", "say `chown root " + path + "; chmod 1777 " + path + "`"}
	}
	if err == nil && unix.Access(path, unix.W_OK) == nil {
		return &folder{os.NewFile(uintptr(fd), path)}, nil
	}
	unix.Close(fd)
	return nil, err
}

// makeShared makes the directory for all users. Between its making and its
// mode nobody else can write it.
func makeShared(path string) error {
	if os.Geteuid() != 0 {
		return fs.ErrPermission
	}
	if err := makeDir(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return makeDir(path, 0o777|fs.ModeSticky)
}

// makeDir makes a directory with this mode whatever the umask; one that is
// there keeps its own.
func makeDir(path string, mode fs.FileMode) error {
	switch err := os.Mkdir(path, mode); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return os.Chmod(path, mode)
}

// Close lets go of all locks. Their files stay: a run that is not taken back
// keeps its handles until somebody has done so.
func (l *Locks) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, of := range l.held {
		for _, f := range of {
			unlock(f)
		}
	}
	clear(l.held)
	return l.dir.close()
}

// Acquire takes the lock on handle for run, whose journal is in stateDir. It
// gives experiment.ErrBusy, and says who, where another run has it: one that
// is alive, or one that died and is not taken back yet. What the same run has
// already stays its own.
func (l *Locks) Acquire(run experiment.RunID, stateDir, handle string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[run][handle] != nil {
		return nil
	}
	me := owner{handle, run, filepath.Clean(stateDir), os.Getpid(), l.user, time.Now().UTC().Truncate(time.Second)}
	f, err := l.take(me)
	if err != nil {
		return fmt.Errorf("lock %s: %w", handle, err)
	}
	if l.held[run] == nil {
		l.held[run] = map[string]*os.File{}
	}
	l.held[run][handle] = f
	return nil
}

// Release gives up all locks of run that this process holds, and removes
// their files.
func (l *Locks) Release(run experiment.RunID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var failed error
	for handle, f := range l.held[run] {
		failed = errors.Join(failed, l.drop(lockName(handle), f))
	}
	delete(l.held, run)
	return failed
}

// ReleaseDead removes the lock files of a run whose process is gone. The
// caller holds the lock of its journal in stateDir, and has taken it back. A
// file that is empty and free was left by a process that died before it could
// say who it is, and goes too.
func (l *Locks) ReleaseDead(run experiment.RunID, stateDir string) error {
	stateDir = filepath.Clean(stateDir)
	return l.each(func(name string) error {
		f, err := l.openFile(name)
		if err != nil {
			return nil // gone meanwhile, or no lock of ours
		}
		left := func() bool {
			o, err := readOwner(f)
			return err == nil && o.Run == run && o.StateDir == stateDir || isEmpty(f)
		}
		if !mine(f) || !left() || l.claim(name, f) != nil || !left() {
			return f.Close()
		}
		return l.drop(name, f)
	})
}

// Leftovers returns a line for each lock file of this user's that names run.
func (l *Locks) Leftovers(run experiment.RunID) ([]string, error) {
	var found []string
	err := l.each(func(name string) error {
		f, err := l.openFile(name)
		if err != nil {
			return nil
		}
		defer f.Close()
		if o, err := readOwner(f); err == nil && o.Run == run && mine(f) {
			found = append(found, fmt.Sprintf("lock of %q: %s", o.Handle, l.dir.path(name)))
		}
		return nil
	})
	return found, err
}

// each calls fn with the name of each lock file, and joins its errors.
func (l *Locks) each(fn func(name string) error) error {
	names, err := l.dir.names()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasSuffix(name, lockSuffix) {
			err = errors.Join(err, fn(name))
		}
	}
	return err
}
