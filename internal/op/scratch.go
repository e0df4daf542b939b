package op

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Scratch is a file without a name on a file system of a target's: it goes when
// whoever has it open ends.
type Scratch struct {
	Root   string `json:"root"`   // of the target, such as /proc/812/root
	Folder string `json:"folder"` // below it
	Bytes  int64  `json:"bytes"`  // of its length, all of them allocated
}

// Check gives the file system that s would be on, or says why it can't
// be there.
func (s Scratch) Check() (unix.Statfs_t, error) {
	var st unix.Statfs_t
	dir, err := s.folder()
	if err != nil {
		return st, err
	}
	defer unix.Close(dir)
	if err := unix.Fstatfs(dir, &st); err != nil {
		return st, fmt.Errorf("look at the file system of %s: %w", s.Folder, err)
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return st, fmt.Errorf("%s is read-only: %w", s.Folder, experiment.ErrUnsupported)
	}
	return st, nil
}

// folder opens the folder as the target sees it: links in it stay below its
// root (openat2(2)).
func (s Scratch) folder() (int, error) {
	root, err := unix.Open(s.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return -1, fmt.Errorf("open %s: %w", s.Root, experiment.ErrGone)
	}
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", s.Root, err)
	}
	defer unix.Close(root)
	dir, err := unix.Openat2(root, s.Folder, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return -1, fmt.Errorf("open %s in the target: %w", s.Folder, err)
	}
	return dir, nil
}

// open makes the file. The page cache is left out where the file system can
// (O_DIRECT of open(2)).
func (s Scratch) open() (*os.File, error) {
	dir, err := s.folder()
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := nameless(dir, unix.O_DIRECT)
	if errors.Is(err, unix.EINVAL) {
		fd, err = nameless(dir, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("make a file in %s: %w", s.Folder, err)
	}
	f := os.NewFile(uintptr(fd), "scratch")
	err = unix.Fallocate(fd, 0, 0, s.Bytes)
	if errors.Is(err, unix.EOPNOTSUPP) { // it is written, or read as zeroes
		err = unix.Ftruncate(fd, s.Bytes)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("make a file of %d bytes in %s: %w", s.Bytes, s.Folder, err)
	}
	return f, nil
}

// nameless opens a new file that has no name, or loses it at once where the
// file system has none without.
func nameless(dir, flags int) (int, error) {
	flags |= unix.O_RDWR | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, ".", flags|unix.O_TMPFILE, 0o600)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return fd, err
	}
	name := ".simian-" + rand.Text()
	fd, err = unix.Openat(dir, name, flags|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if bad := unix.Unlinkat(dir, name, 0); err == nil {
		err = bad
	}
	return fd, err
}
