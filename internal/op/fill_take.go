package op

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// heldSpace is what keeps space, or inodes, taken.
type heldSpace struct {
	files  []*os.File
	named  bool
	want   int64 // bytes
	before space // before it was taken
	after  space
}

// Close implements io.Closer: the kernel gives back what no name and no open
// file leads to. A child that this process has forked has all files open until
// it becomes another program: so the space is given back before.
func (h *heldSpace) Close() error {
	var errs []error
	for _, file := range h.files {
		if h.want > 0 {
			_ = file.Truncate(0)
		}
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

// take takes what it should of the file system that dir is on. Where it can't
// have all of it, it keeps nothing.
func (f *Fill) take(ctx context.Context, dir *os.File) (*heldSpace, error) {
	before, err := spaceOf(dir)
	if err != nil {
		return nil, err
	}
	held := &heldSpace{before: before}
	if f.ofInodes() {
		err = f.takeInodes(ctx, dir, held)
	} else {
		err = f.takeBytes(ctx, dir, held)
	}
	if err == nil {
		held.after, err = spaceOf(dir)
	}
	if err == nil {
		err = f.aboveFloor(held.after)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fill %s: %w", f.Path, err), held.Close())
	}
	return held, nil
}

// aboveFloor gives an error where others have taken so much meanwhile that too
// little is left.
func (f *Fill) aboveFloor(now space) error {
	if f.ofInodes() && now.freeInodes < f.FloorInodes || !f.ofInodes() && now.free < f.Floor {
		return fmt.Errorf("others write there too, and less than the floor would be left (%s): all of it is given back", now)
	}
	return nil
}

func (f *Fill) takeBytes(ctx context.Context, dir *os.File, held *heldSpace) error {
	want, _, err := f.Wants(held.before)
	if err != nil || want == 0 {
		return err
	}
	if f.Disk.memory() {
		if err := memoryFor(f.host.FS, want); err != nil {
			return err
		}
	}
	file, named, err := f.newFile(dir)
	if err != nil {
		return err
	}
	held.files, held.named = append(held.files, file), named
	for try := 0; ; try++ {
		held.want = want
		err := allocate(ctx, file, want, f.Disk.memory()) // 0 bytes at once
		if err == nil {
			return nil
		}
		if f.Percent == 0 || !errors.Is(err, unix.ENOSPC) || try == 20 {
			return partly(file, want, err)
		}
		if want, err = f.again(dir, file); err != nil {
			return err
		}
	}
}

// again gives back what could be taken of it, and says how much it is now to a
// level: the target has written since it was reckoned.
func (f *Fill) again(dir, file *os.File) (int64, error) {
	if err := file.Truncate(0); err != nil {
		return 0, err
	}
	now, err := spaceOf(dir)
	if err != nil {
		return 0, err
	}
	want, _, err := f.Wants(now)
	return want, err
}

// partly says how far it came.
func partly(file *os.File, want int64, err error) error {
	var st unix.Stat_t
	_ = unix.Fstat(int(file.Fd()), &st)
	return fmt.Errorf("%s of %s could be taken, and are given back: %w", size(st.Blocks*512), size(want), err)
}

// newFile makes a file without a name, or else one with a name.
func (f *Fill) newFile(dir *os.File) (file *os.File, named bool, err error) {
	fd, err := f.tmpfile(dir)
	if err == nil {
		return os.NewFile(uintptr(fd), f.Path), false, nil
	}
	if !noTmpfile(err) {
		return nil, false, fmt.Errorf("make a file: %w", err)
	}
	err = asOwner(dir, func() (err error) {
		fd, err = unix.Openat(int(dir.Fd()), f.Name(), unix.O_CREAT|unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("make file %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), true, nil
}

// noTmpfile tells whether the file system has no files without a name.
func noTmpfile(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL)
}

// tmpfile makes a file without a name (O_TMPFILE, open(2)), in an overlay's
// upper folder where the overlay itself has none.
func (f *Fill) tmpfile(dir *os.File) (fd int, err error) {
	const flags = unix.O_TMPFILE | unix.O_RDWR | unix.O_CLOEXEC
	open := f.nameless
	if open == nil {
		open = func(dir int) (int, error) { return unix.Openat(dir, ".", flags, 0o600) }
	}
	err = asOwner(dir, func() (err error) {
		fd, err = open(int(dir.Fd()))
		return err
	})
	if err != nil && noTmpfile(err) && f.Disk.Upper != "" {
		if upper, bad := unix.Open(f.Disk.Upper, flags|unix.O_NOFOLLOW, 0o600); bad == nil {
			return upper, nil
		}
	}
	return fd, err
}

// asOwner runs fn, and again as the folder's owner where this user has no
// number on the file system: in a user namespace, or behind a mount that
// shifts owners.
func asOwner(dir *os.File, fn func() error) error {
	err := fn()
	if !errors.Is(err, unix.EOVERFLOW) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { // on a thread that ends with it: its users are its own
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() { // this one can't end
			defer runtime.UnlockOSThread()
			defer func() { _, _ = unix.SetfsuidRetUid(0); _, _ = unix.SetfsgidRetGid(0) }()
		}
		_, _ = unix.SetfsgidRetGid(int(st.Gid))
		_, _ = unix.SetfsuidRetUid(int(st.Uid))
		done <- fn()
	}()
	return <-done
}

// allocate makes a file n bytes long that has all its blocks. Memory is given
// in small parts, so that what is done meanwhile is not undone by a signal.
func allocate(ctx context.Context, file *os.File, n int64, memory bool) error {
	part := int64(4 << 30)
	if memory {
		part = 64 << 20
	}
	for at := int64(0); at < n; {
		next := min(part, n-at)
		err := unix.Fallocate(int(file.Fd()), 0, at, next)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return write(ctx, file, at, n)
		case err != nil:
			return fmt.Errorf("allocate: %w", err)
		}
		at += next
	}
	return nil
}

// write writes what no file system can make smaller.
func write(ctx context.Context, file *os.File, at, n int64) error {
	noise := make([]byte, 1<<20)
	_, _ = rand.Read(noise) // never fails
	for at < n {
		if ctx.Err() != nil {
			return fmt.Errorf("write, since this file system can't allocate: %w", ctx.Err())
		}
		noise[at>>20&0xfffff]++ // no two parts are the same
		wrote, err := file.WriteAt(noise[:min(int64(len(noise)), n-at)], at)
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		at += int64(wrote)
	}
	return nil
}

func (f *Fill) takeInodes(ctx context.Context, dir *os.File, held *heldSpace) error {
	want, _, err := f.Wants(held.before)
	if err != nil {
		return err
	}
	if err := CheckFiles(want); err != nil {
		return err
	}
	for int64(len(held.files)) < want {
		fd, err := f.tmpfile(dir)
		if noTmpfile(err) {
			err = fmt.Errorf("%s here has no files without a name (O_TMPFILE): %w", f.Disk.Kind, experiment.ErrUnsupported)
		}
		if err == nil {
			held.files = append(held.files, os.NewFile(uintptr(fd), f.Path))
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%d of %d inodes could be taken, and are given back: %w", len(held.files), want, err)
		}
	}
	return nil
}

// CheckFiles gives an error where this process may not have so many open
// files: each inode is held by one.
func CheckFiles(n int64) error {
	const spare = 1024
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if most := max(0, int64(min(limit.Max, 1<<30))-spare); n > most {
		return fmt.Errorf("%d inodes are held by as many open files, and this process may have %d (ulimit -n): raise that, or take fewer: %w", n, most, experiment.ErrUnsupported)
	}
	return nil
}
