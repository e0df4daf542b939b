package image

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// The bounds on a name in a layer. Deeper trees than this are made to harm
// those who walk or remove them: a level costs a descriptor then.
const (
	maxPath  = unix.PathMax - 1 // bytes
	maxDepth = 256              // components
)

// cleanName makes a tar entry's name relative to the layer's root, "." for
// the root. An absolute one is taken from the root, as Docker does; one that
// leads out is refused.
func cleanName(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	switch {
	case name == "":
		return "", errors.New("an entry has no name")
	case clean == ".." || strings.HasPrefix(clean, "../"):
		return "", fmt.Errorf("entry %q leads out of the layer", name)
	case len(clean) > maxPath:
		return "", fmt.Errorf("entry %.40q…: its name has %d bytes, more than %d", name, len(clean), maxPath)
	case strings.Count(clean, "/") >= maxDepth:
		return "", fmt.Errorf("entry %.40q…: its name is more than %d folders deep", name, maxDepth)
	}
	return clean, nil
}

// The tries at openat2, which answers EAGAIN where it cannot rule out a race
// with a rename anywhere on the system.
const openTries = 128

// openBelow opens a folder of the layer, as in a root of its own: whatever
// symlinks lead to, it is below root (openat2(2), Linux 5.6). Symlinks are
// followed because Docker follows them, and images lean on it: an entry
// bin/tool after bin -> usr/bin.
func openBelow(root int, name string) (int, error) {
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	plain := *how
	plain.Resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV
	fd, err := openat2(root, name, &plain)
	if !errors.Is(err, unix.ELOOP) {
		return fd, err
	}
	if fd, err = openat2(root, name, how); err != nil {
		return fd, err
	}
	if err := checkDepth(root, fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func openat2(root int, name string, how *unix.OpenHow) (int, error) {
	for range openTries {
		fd, err := unix.Openat2(root, name, how)
		switch {
		case errors.Is(err, unix.ENOSYS):
			return -1, errors.New("unpacking needs openat2(2), which Linux has since 5.6")
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// checkDepth holds a folder reached through symlinks to the same bounds as
// one that was named: links to links lead deeper than any name.
func checkDepth(root, fd int) error {
	base, err := fdPath(root)
	if err != nil {
		return err
	}
	full, err := fdPath(fd)
	if err != nil {
		return err // ENAMETOOLONG
	}
	below := strings.TrimPrefix(full, base)
	if len(below) > maxPath || strings.Count(below, "/") >= maxDepth {
		return fmt.Errorf("symlinks lead more than %d folders deep", maxDepth)
	}
	return nil
}

// fdPath returns the path of an open folder.
func fdPath(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlink(procFD(fd), buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// procFD names an open descriptor by path, for system calls that have no
// *at form, and for packages that want names.
func procFD(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
