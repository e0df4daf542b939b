package box

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// inside is how every path is resolved that the image or the Compose file has
// a say in: links stay inside the container's root, and there is no way
// through the links of /proc that lead to open files (openat2(2)).
const inside = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// openAt opens name below dir, to be a path only.
func (a *assembler) openAt(words string, dir register, name string, flags, resolve int) op {
	how := a.words64(uint64(unix.O_PATH|unix.O_CLOEXEC|flags), 0, uint64(resolve))
	return a.do(words, unix.SYS_OPENAT2, dir, name, how, unix.SizeofOpenHow)
}

// dirAt returns the folder at a path in the container. It is made where it is
// missing, with those above it.
func (c *container) dirAt(a *assembler, words, dir string, resolve int) register {
	dir = strings.Trim(path.Clean("/"+dir), "/")
	if dir == "" {
		return c.top
	}
	found := a.next
	a.next++
	whole := a.openAt(words, c.top, dir, unix.O_DIRECTORY, resolve).allow(unix.ENOENT)
	whole.into(found)
	above := c.top
	parts := strings.Split(dir, "/")
	for i, part := range parts {
		there := a.openAt(words, c.top, strings.Join(parts[:i+1], "/"), unix.O_DIRECTORY, resolve).allow(unix.ENOENT)
		there.into(found)
		a.do(words, unix.SYS_MKDIRAT, above, part, 0o755)
		a.openAt(words, above, part, unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS).into(found)
		there.skip(len(a.Ops)-there.i-1, 0)
		above = found
	}
	whole.skip(len(a.Ops)-whole.i-1, 0)
	return found
}

// fileAt returns the file at a path in the container, to be a mount point. An
// empty one is made where there is none.
func (c *container) fileAt(a *assembler, words, file string) register {
	file = strings.Trim(path.Clean("/"+file), "/")
	found := a.next
	a.next++
	whole := a.openAt(words, c.top, file, 0, inside).allow(unix.ENOENT)
	whole.into(found)
	above := c.dirAt(a, words, path.Dir(file), inside)
	a.do(words, unix.SYS_OPENAT, above, path.Base(file), unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644).into(found)
	whole.skip(len(a.Ops)-whole.i-1, 0)
	return found
}
