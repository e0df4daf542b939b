package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pollEvery is how often a lock that another holds is asked for again.
const pollEvery = 5 * time.Millisecond

// flock takes a lock on an open file or folder, and waits for it. It belongs
// to this opening of it: goroutines exclude each other as processes do, and
// it goes with the process, however that ends (flock(2)).
func flock(ctx context.Context, f *os.File, how int) error {
	for {
		err := tryFlock(f, how)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pollEvery):
		}
	}
}

func tryFlock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// lock takes the cache's own lock, which is held for moments only: shared by
// who says that layers are in use, exclusive by who decides that some are not.
func (c *Cache) lock(ctx context.Context, how int) (unlock func(), err error) {
	f, err := os.OpenFile(c.path(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the image cache: %w", err)
	}
	if err := flock(ctx, f, how); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the image cache: %w", err)
	}
	return func() { f.Close() }, nil
}

// errAgain says that another was quicker: look again.
var errAgain = errors.New("another was quicker")

// claim opens the folder at path, made where it is not there, and locks it.
// Only who holds the lock may remove it, so that it is nobody else's then.
func claim(ctx context.Context, path string) (*os.File, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errAgain
	}
	if err != nil {
		return nil, err
	}
	if err := flock(ctx, f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	if !sameFile(f, path) {
		f.Close()
		return nil, errAgain
	}
	return f, nil
}

// sameFile tells whether path still is the open file.
func sameFile(f *os.File, path string) bool {
	was, err := f.Stat()
	if err != nil {
		return false
	}
	is, err := os.Lstat(path)
	return err == nil && os.SameFile(was, is)
}

// sweep removes what killed processes left in tmp/, and what could not be
// removed there. What is locked is being worked on.
func (c *Cache) sweep() error {
	list, err := os.ReadDir(c.path(tmpDir))
	if err != nil {
		return fmt.Errorf("sweep image cache: %w", err)
	}
	var errs []error
	for _, e := range list {
		errs = append(errs, sweepOne(c.path(tmpDir, e.Name())))
	}
	return errors.Join(errs...)
}

func sweepOne(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil // gone already
	}
	defer f.Close()
	if tryFlock(f, unix.LOCK_EX) != nil || !sameFile(f, path) {
		return nil
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("sweep image cache: %w", err)
	}
	return nil
}
