package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// make makes one entry, whose folder is open.
func (u *unpacker) make(where at, name string, h *tar.Header, content io.Reader) error {
	if strings.HasPrefix(where.name, whiteoutPrefix) {
		return u.whiteout(where)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.dir(where, name, h)
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont: // see hasContent
		return u.file(where, h, content)
	case tar.TypeSymlink:
		return u.symlink(where, h)
	case tar.TypeLink:
		return u.link(where, h)
	case tar.TypeFifo:
		return u.fifo(where, h)
	case tar.TypeChar, tar.TypeBlock:
		return u.clear(where) // left out: a container's /dev is made by who launches it
	}
	return fmt.Errorf("a kind of entry that no layer has (%q)", h.Typeflag)
}

// dir makes a folder, or takes the one that is there.
func (u *unpacker) dir(where at, name string, h *tar.Header) error {
	st, err := where.stat()
	hidden := err == nil && isWhiteout(st)
	if err != nil || !isDir(st) {
		if err := u.clear(where); err != nil {
			return err
		}
		if err := unix.Mkdirat(where.dir, where.name, 0o700); err != nil {
			return err
		}
	}
	if hidden { // this layer replaces the lower ones' folder: nothing of theirs shows
		if err := where.setXattr(opaqueAttr, "y"); err != nil {
			return err
		}
	}
	u.times[name] = h.ModTime
	return setMeta(where, h)
}

// file writes a regular file.
func (u *unpacker) file(where at, h *tar.Header, content io.Reader) error {
	if err := u.clear(where); err != nil {
		return err
	}
	fd, err := unix.Openat(where.dir, where.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), where.name)
	defer f.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, content, u.buf); err != nil {
		return plain(err)
	}
	if err := setMeta(where, h); err != nil {
		return err
	}
	if err := setTime(where, h.ModTime); err != nil {
		return err
	}
	return plain(f.Close())
}

// symlink makes a symbolic link. Where it leads is the container's matter:
// nothing here follows one out of the layer.
func (u *unpacker) symlink(where at, h *tar.Header) error {
	if err := u.clear(where); err != nil {
		return err
	}
	if err := unix.Symlinkat(h.Linkname, where.dir, where.name); err != nil {
		return err
	}
	return setInode(where, h)
}

func (u *unpacker) fifo(where at, h *tar.Header) error {
	if err := u.clear(where); err != nil {
		return err
	}
	if err := unix.Mknodat(where.dir, where.name, unix.S_IFIFO|0o600, 0); err != nil {
		return err
	}
	return setInode(where, h)
}

// link makes a hard link to a file of this layer. One to a symlink links the
// symlink itself (linkat(2) without AT_SYMLINK_FOLLOW), as Docker does.
func (u *unpacker) link(where at, h *tar.Header) error {
	target, err := cleanName(h.Linkname)
	if err != nil {
		return fmt.Errorf("link to %q: %w", h.Linkname, err)
	}
	dir, base := path.Split(target)
	fd, err := openBelow(u.root, path.Clean(dir))
	if err != nil {
		return fmt.Errorf("link to %q: %w", h.Linkname, err)
	}
	defer unix.Close(fd)
	st, err := linkable(at{fd, base})
	if err != nil {
		return fmt.Errorf("link to %q: %w", h.Linkname, err)
	}
	if old, err := where.stat(); err == nil && old.Ino == st.Ino {
		return nil // it is so already; to clear it might remove the only name
	}
	if err := u.clear(where); err != nil {
		return err
	}
	if err := unix.Linkat(fd, base, where.dir, where.name, 0); err != nil {
		return fmt.Errorf("link to %q: %w", h.Linkname, err)
	}
	return nil
}

// linkable checks what a hard link leads to.
func linkable(a at) (*unix.Stat_t, error) {
	st, err := a.stat()
	if errors.Is(err, unix.ENOENT) {
		return nil, errors.New("it is not in this layer")
	}
	if err == nil && (isDir(st) || isWhiteout(st)) {
		return nil, errors.New("it is no file")
	}
	return st, err
}

// clear removes what stands where an entry goes. A folder goes with all that
// is in it.
func (u *unpacker) clear(where at) error {
	err := unix.Unlinkat(where.dir, where.name, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	u.stale = true
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, unix.EISDIR):
		return err
	}
	// The folder is this process's alone, so that a path is good enough; RemoveAll follows no links below it.
	return plain(os.RemoveAll(path.Join(procFD(where.dir), where.name)))
}

// plain strips a file's name off an error: the entry's is said already.
func plain(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// at is a name in an open folder. Nothing done by it follows a link there.
type at struct {
	dir  int
	name string
}

func (a at) stat() (*unix.Stat_t, error) {
	var st unix.Stat_t
	return &st, unix.Fstatat(a.dir, a.name, &st, unix.AT_SYMLINK_NOFOLLOW)
}

func (a at) path() string { return procFD(a.dir) + "/" + a.name }

func (a at) setXattr(attr, value string) error {
	if err := unix.Lsetxattr(a.path(), attr, []byte(value), 0); err != nil {
		return fmt.Errorf("set %s: %w", attr, err)
	}
	return nil
}
