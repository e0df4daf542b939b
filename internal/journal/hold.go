package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

const (
	// pollEvery is how often a lock that is held is asked for. The kernel
	// frees the lock of a process before it reports its death, so a takeover
	// takes this long at most.
	pollEvery = time.Millisecond
	// sharedFor is how long TryLock goes on while others only ask: Held takes a
	// shared lock for some microseconds, and must not pass for a holder.
	sharedFor = 200 * time.Millisecond
)

// Create makes the journal of a new run in open/ and takes its lock. An error
// that is fs.ErrExist says that the run's name is taken.
func (s *Store) Create(ctx context.Context, run experiment.RunID) error {
	if err := checkRun(run); err != nil {
		return err
	}
	if f, _, err := s.find(run); err == nil {
		return errors.Join(&fs.PathError{Op: "create journal", Path: f.Name(), Err: fs.ErrExist}, f.Close())
	}
	for {
		f, err := s.open.open(fileName(run), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_APPEND)
		if err != nil {
			return fmt.Errorf("create journal: %w", err)
		}
		// A sweep may have seen the file before its lock was taken; it found
		// it empty and removed it.
		err = flock(ctx, f, unix.LOCK_EX)
		if err == nil && !s.open.holds(fileName(run), f) {
			f.Close()
			continue
		}
		if err == nil {
			err = s.open.Sync()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("create journal %s: %w", f.Name(), err), s.open.remove(fileName(run)), f.Close())
		}
		s.keep(run, f, nil)
		return nil
	}
}

// Lock takes the lock of an unfinished run, waiting for its holder until ctx
// ends. It gives ErrFinished where the run was finished meanwhile. A journal
// on a file system that has become read-only can be locked and read: taking
// back goes before writing about it.
func (s *Store) Lock(ctx context.Context, run experiment.RunID) error {
	return s.lock(run, func(f *os.File) error { return flock(ctx, f, unix.LOCK_EX) })
}

// TryLock is Lock for who does not wait: it gives experiment.ErrBusy where
// the lock is held.
func (s *Store) TryLock(run experiment.RunID) error { return s.lock(run, tryFlock) }

func (s *Store) lock(run experiment.RunID, take func(*os.File) error) error {
	if err := checkRun(run); err != nil {
		return err
	}
	f, readOnly, err := s.openToLock(run)
	if err != nil {
		return err
	}
	if err := take(f); err != nil {
		return errors.Join(fmt.Errorf("lock journal %s: %w", f.Name(), err), f.Close())
	}
	if err := s.checkUnfinished(run, f); err != nil {
		return errors.Join(err, f.Close())
	}
	s.keep(run, f, readOnly)
	return nil
}

// Held tells whether a process, this one or any other, holds the lock of an
// unfinished run: whether the run is alive. It takes a shared lock for some
// microseconds, which TryLock outwaits, and changes nothing.
func (s *Store) Held(run experiment.RunID) bool {
	if checkRun(run) != nil {
		return false
	}
	f, err := s.open.open(fileName(run), unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(flockOnce(f, unix.LOCK_SH), unix.EWOULDBLOCK)
}

// Finish moves the journal of run to done/ and gives up its lock: nothing is
// left to take back. The lock is given up whatever happens.
func (s *Store) Finish(run experiment.RunID) error {
	w := s.forget(run)
	if w == nil {
		return fmt.Errorf("finish run %s: %w", run, ErrNotLocked)
	}
	defer w.release()
	name := fileName(run)
	if err := unix.Renameat(int(s.open.Fd()), name, int(s.done.Fd()), name); err != nil {
		return &fs.PathError{Op: "move to done", Path: w.f.Name(), Err: err}
	}
	// The new name first: after a crash the journal may be in both, and is
	// never in neither.
	return errors.Join(s.done.Sync(), s.open.Sync())
}

// Release gives up the lock of run, which stays unfinished. It does nothing
// where the lock is not held.
func (s *Store) Release(run experiment.RunID) {
	if w := s.forget(run); w != nil {
		w.release()
	}
}

// openToLock opens the journal of an unfinished run for writing, or for
// reading where the file system has become read-only; why is the second
// result.
func (s *Store) openToLock(run experiment.RunID) (f *os.File, readOnly, err error) {
	name := fileName(run)
	f, err = s.open.open(name, unix.O_RDWR|unix.O_APPEND)
	if errors.Is(err, unix.EROFS) {
		readOnly = err
		f, err = s.open.open(name, unix.O_RDONLY)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, s.whyMissing(run)
	case err != nil:
		return nil, nil, fmt.Errorf("lock journal: %w", err)
	}
	return f, readOnly, nil
}

// whyMissing says why run has no journal in open/.
func (s *Store) whyMissing(run experiment.RunID) error {
	f, _, err := s.find(run)
	if err != nil {
		return err
	}
	defer f.Close()
	return fmt.Errorf("lock journal %s: %w", f.Name(), ErrFinished)
}

// checkUnfinished tells, under the lock, whether f is still the journal of an
// unfinished run. One that is empty is of a runner that died before it wrote
// anything, and so before it changed anything: it is removed.
func (s *Store) checkUnfinished(run experiment.RunID, f *os.File) error {
	if !s.open.holds(fileName(run), f) {
		return fmt.Errorf("lock journal %s: %w", f.Name(), ErrFinished)
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() > 0 {
		return nil
	}
	return errors.Join(fmt.Errorf("lock journal %s: it is empty: %w", f.Name(), ErrFinished), s.open.remove(fileName(run)))
}

// keep remembers that the lock on f is held.
func (s *Store) keep(run experiment.RunID, f *os.File, readOnly error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[run] = &writer{f: f, encode: s.codec.Encoder(), now: s.now, size: unknown, readOnly: readOnly}
}

// forget takes run off the list of what is held and returns its writer, nil
// where there is none.
func (s *Store) forget(run experiment.RunID) *writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.held[run]
	delete(s.held, run)
	return w
}

// flock takes the lock on f, LOCK_EX or LOCK_SH, asking until ctx ends. It asks
// again and again, since a thread that waits in flock(2) cannot be called back.
func flock(ctx context.Context, f *os.File, how int) error {
	for {
		err := flockOnce(f, how)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// tryFlock takes the exclusive lock on f, or gives experiment.ErrBusy where
// another has it. A shared lock is somebody who asks, and passes.
func tryFlock(f *os.File) error {
	for end := time.Now().Add(sharedFor); ; time.Sleep(pollEvery / 10) {
		if err := flockOnce(f, unix.LOCK_EX); !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		switch err := flockOnce(f, unix.LOCK_SH); {
		case errors.Is(err, unix.EWOULDBLOCK), time.Now().After(end):
			return fmt.Errorf("%w: another process holds it", experiment.ErrBusy)
		case err != nil:
			return err
		}
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
	}
}

// flockOnce asks for a lock on f; EWOULDBLOCK says that it is held.
func flockOnce(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
