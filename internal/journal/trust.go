package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// TrustError says that a file or directory is not to be used, since somebody
// else could have written what is in it.
type TrustError struct {
	Path   string
	What   string // what is wrong with it
	Remedy string // the way out
}

// Error implements error.
func (e *TrustError) Error() string {
	return fmt.Sprintf("refuse %s: %s; %s", e.Path, e.What, e.Remedy)
}

// checkTrust refuses what is not of the wanted type (S_IFDIR, S_IFREG), not
// owned by the effective user, or writable by others. An access control list
// that lets others write shows in the group's bits.
func checkTrust(path string, st *unix.Stat_t, want uint32) error {
	what, name := "a directory", "chown -R"
	if want == unix.S_IFREG {
		what, name = "a regular file", "chown"
	}
	switch euid := os.Geteuid(); {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return &TrustError{path, "it is a symbolic link", "put " + what + " in its place"}
	case st.Mode&unix.S_IFMT != want:
		return &TrustError{path, "it is not " + what, "move it away"}
	case int(st.Uid) != euid:
		return &TrustError{
			path, fmt.Sprintf("it belongs to uid %d, not to uid %d, who would do what it says", st.Uid, euid),
			fmt.Sprintf("say `%s %d %s` if you trust what is in it, or move it away", name, euid, path),
		}
	case st.Mode&0o022 != 0:
		return &TrustError{
			path, fmt.Sprintf("its mode %04o lets others than uid %d write it", st.Mode&0o7777, euid),
			fmt.Sprintf("say `chmod go-w %s` if you trust what is in it, or move it away", path),
		}
	}
	return nil
}

// folder is an open directory. Everything below it is reached through its
// descriptor, so that nobody can put another path in between. A nil folder is
// one that does not exist.
type folder struct {
	*os.File
}

// openFolder opens the directory at path, made with mode 0700 where it is
// missing and wanted, and checks that it is to be trusted.
func openFolder(path string, create bool) (*folder, error) {
	d, err := trustFolder(unix.AT_FDCWD, path, path)
	if !create || !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	return trustFolder(unix.AT_FDCWD, path, path)
}

// sub opens a directory of d's, as openFolder does.
func (d *folder) sub(name string, create bool) (*folder, error) {
	if d == nil {
		return nil, fs.ErrNotExist
	}
	path := d.path(name)
	f, err := trustFolder(int(d.Fd()), name, path)
	if !create || !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := unix.Mkdirat(int(d.Fd()), name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &fs.PathError{Op: "make directory", Path: path, Err: err}
	}
	return trustFolder(int(d.Fd()), name, path)
}

func trustFolder(at int, name, path string) (*folder, error) {
	fd, err := openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		var st unix.Stat_t
		if unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil, checkTrust(path, &st, unix.S_IFDIR)
		}
		return nil, &fs.PathError{Op: "open directory", Path: path, Err: err}
	}
	f := &folder{os.NewFile(uintptr(fd), path)}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "stat", Path: path, Err: err}, f.Close())
	}
	if err := checkTrust(path, &st, unix.S_IFDIR); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// path returns the path of an entry, for messages.
func (d *folder) path(name string) string { return filepath.Join(d.Name(), name) }

// close is Close for a folder that may be missing.
func (d *folder) close() error {
	if d == nil {
		return nil
	}
	return d.Close()
}

// open opens a regular file of d's that is to be trusted.
func (d *folder) open(name string, flags int) (*os.File, error) {
	if d == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	fd, err := openat(int(d.Fd()), name, flags, 0o600)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, &TrustError{d.path(name), "it is a symbolic link", "remove it"}
	case errors.Is(err, unix.EISDIR):
		return nil, &TrustError{d.path(name), "it is not a regular file", "move it away"}
	case err != nil:
		return nil, &fs.PathError{Op: "open", Path: d.path(name), Err: err}
	}
	f := os.NewFile(uintptr(fd), d.path(name))
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "stat", Path: f.Name(), Err: err}, f.Close())
	}
	if err := checkTrust(f.Name(), &st, unix.S_IFREG); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// names returns the entries of d, unsorted, in one listing.
func (d *folder) names() ([]string, error) {
	if d == nil {
		return nil, nil
	}
	// A descriptor of its own: the offset is shared by all who use one.
	fd, err := openat(int(d.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "list", Path: d.Name(), Err: err}
	}
	f := os.NewFile(uintptr(fd), d.Name())
	defer f.Close()
	return f.Readdirnames(-1)
}

// holds tells whether name in d is still the very file f.
func (d *folder) holds(name string, f *os.File) bool {
	var a, b unix.Stat_t
	return unix.Fstatat(int(d.Fd()), name, &a, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		unix.Fstat(int(f.Fd()), &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// remove unlinks name.
func (d *folder) remove(name string) error {
	if err := unix.Unlinkat(int(d.Fd()), name, 0); err != nil {
		return &fs.PathError{Op: "remove", Path: d.path(name), Err: err}
	}
	return nil
}

// openat opens without following a last symbolic link, and without waiting
// for the other end of a pipe that somebody put there.
func openat(at int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(at, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, mode)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return -1, err
		}
		return fd, unix.SetNonblock(fd, false)
	}
}
