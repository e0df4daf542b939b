package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// limits bound what one layer may unpack to.
type limits struct {
	bytes int64 // of the archive, uncompressed, and of all its files' content
	files int64 // entries, and folders made because an entry lies in them
}

// stats is what a layer came to.
type stats struct {
	Bytes int64 `json:"bytes"` // on disk, about: content in blocks of 4 KiB, and one for each file
	Files int64 `json:"files"`
	// Opaque: nothing of the layers below shows. Overlayfs does not heed that
	// of a layer's root, so whoever stacks them leaves the lower ones out.
	Opaque bool `json:"opaque,omitempty"`
}

// block is what the least file is taken to need on disk, in bytes.
const block = 4096

// unpacker writes one layer's archive into one folder, and nowhere else:
//
//   - each entry's folder is opened below the layer's root (openBelow), and
//     the entry is made in it by its last name alone, by calls that follow no
//     link there (O_EXCL, O_NOFOLLOW, the *at calls);
//   - what is in the way is removed first, never written through;
//   - no device node is made but overlayfs's own whiteouts, which the archive
//     cannot ask for by a device entry.
//
// The folder must be this process's alone.
type unpacker struct {
	root  int // the layer's folder
	limit limits
	stats stats
	bytes int64 // content so far

	parentName string // the folder of the last entry,
	parent     int    // open; -1 for none
	stale      bool   // something was replaced: its name may mean another one now
	times      map[string]time.Time
	buf        []byte
}

// unpack reads an uncompressed tar archive into the folder at dir.
func unpack(ctx context.Context, r io.Reader, dir string, limit limits) (stats, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return stats{}, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	u := &unpacker{root: root, limit: limit, parent: -1, times: map[string]time.Time{}, buf: make([]byte, 256<<10)}
	defer u.forget()
	if err := u.entries(ctx, tar.NewReader(r)); err != nil {
		return stats{}, err
	}
	return u.stats, u.setTimes()
}

func (u *unpacker) entries(ctx context.Context, t *tar.Reader) error {
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := u.entry(h, t); err != nil {
			return err
		}
	}
}

// entry makes what one entry says.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if err := u.count(h); err != nil {
		return err
	}
	if name == "." {
		return u.rootEntry(h)
	}
	dir, base := path.Split(name)
	parent, err := u.folder(path.Clean(dir))
	if err != nil {
		return fmt.Errorf("entry %q: make its folder: %w", h.Name, err)
	}
	if err := u.make(at{parent, base}, name, h, content); err != nil {
		return fmt.Errorf("entry %q: %w", h.Name, err)
	}
	return nil
}

// count holds an entry to the layer's bounds, before any of it is written.
func (u *unpacker) count(h *tar.Header) error {
	u.stats.Files++
	u.stats.Bytes += block
	if u.stats.Files > u.limit.files {
		return fmt.Errorf("entry %q: the layer has more than %d files", h.Name, u.limit.files)
	}
	if !hasContent(h) {
		return nil
	}
	if h.Size > u.limit.bytes-u.bytes {
		return fmt.Errorf("entry %q: the layer's files have more than %d bytes", h.Name, u.limit.bytes)
	}
	u.bytes += h.Size
	u.stats.Bytes += (h.Size + block - 1) / block * block
	return nil
}

// hasContent tells whether an entry is written as a regular file.
func hasContent(h *tar.Header) bool {
	return h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse || h.Typeflag == tar.TypeCont
}

// rootEntry sets the metadata of the layer's own folder.
func (u *unpacker) rootEntry(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return fmt.Errorf("entry %q: the layer's root is no folder", h.Name)
	}
	u.times["."] = h.ModTime
	return setMeta(at{u.root, "."}, h)
}

// folder returns the folder with this name, made with all those above it
// where it is not there. It stays open until the next one is asked for.
func (u *unpacker) folder(name string) (int, error) {
	if name == "." {
		return u.root, nil
	}
	if u.parent >= 0 && u.parentName == name && !u.stale {
		return u.parent, nil
	}
	u.forget()
	fd, err := u.openFolder(name)
	if err != nil {
		return -1, err
	}
	u.parent, u.parentName = fd, name
	return fd, nil
}

// openFolder opens a folder, and makes it and those above it where missing.
func (u *unpacker) openFolder(name string) (int, error) {
	fd, err := openBelow(u.root, name)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	above := u.root
	dir, base := path.Split(name)
	if dir != "" {
		if above, err = u.openFolder(path.Clean(dir)); err != nil {
			return -1, err
		}
		defer unix.Close(above)
	}
	if err := u.count(&tar.Header{Name: name, Typeflag: tar.TypeDir}); err != nil {
		return -1, err
	}
	if err := unix.Mkdirat(above, base, 0o755); err != nil {
		return -1, err // EEXIST: a symlink to nowhere stands there
	}
	if err := unix.Fchmodat(above, base, 0o755, 0); err != nil { // whatever the umask
		return -1, err
	}
	return openBelow(u.root, name)
}

// forget closes the last entry's folder.
func (u *unpacker) forget() {
	if u.parent >= 0 {
		unix.Close(u.parent)
	}
	u.parent, u.stale = -1, false
}

// setTimes sets the folders' times, which each entry made in them changed.
func (u *unpacker) setTimes() error {
	for name, t := range u.times {
		dir, base := path.Split(name)
		fd, err := openBelow(u.root, path.Clean(dir))
		if err != nil {
			continue // another entry has replaced it
		}
		err = setTime(at{fd, base}, t)
		unix.Close(fd)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("set the time of %q: %w", name, err)
		}
	}
	return nil
}
