package box

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxOptions is how long the options of mount(2) may be: a page, and the zero
// byte after them.
const maxOptions = 4095

const sizeofMountAttr = 32 // of struct mount_attr, mount_setattr(2)

// root makes the container's root, and leaves the host's: nothing of it is
// mounted any more afterwards, but what was bound.
//
//	slave everything ▶ overlay ▶ clone what is bound, detached ▶ pivot_root ▶ detach the old root
func (c *container) root(a *assembler) {
	a.do("keep its mounts to itself", unix.SYS_MOUNT, "none", "/", 0, unix.MS_REC|unix.MS_SLAVE, 0)
	c.asItsRoot(a)
	c.mapLayers(a)
	if c.Upper == "" && len(c.Lower) == 1 {
		a.bindRoot(c.Lower[0])
	} else {
		c.overlay(a)
	}
	for i := range c.mounts {
		c.mounts[i].detach(a)
		c.mapBind(a, &c.mounts[i])
	}
	c.Cgroup.detach(a, c)
	a.do("change its root", unix.SYS_PIVOT_ROOT, ".", ".")
	a.do("leave the host's root", unix.SYS_UMOUNT2, ".", unix.MNT_DETACH)
	a.do("enter its root", unix.SYS_CHDIR, "/")
	c.top = a.do("open its root", unix.SYS_OPENAT, unix.AT_FDCWD, "/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0).out()
}

// bindRoot makes a folder the root, as it is, to be read only.
func (a *assembler) bindRoot(dir string) {
	tree := a.do("clone root "+dir, unix.SYS_OPEN_TREE, unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).into(a.scratch(0))
	a.mountAttr("make root read-only", tree, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}, false)
	a.do("mount root "+dir, unix.SYS_MOVE_MOUNT, tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
	a.do("enter root", unix.SYS_FCHDIR, tree)
}

// overlay mounts the layers over the uppermost of them, in this mount
// namespace alone, and enters the mount. Names are told from the layers'
// common parent, since a page must hold them all.
func (c *container) overlay(a *assembler) {
	base, options, err := overlayOptions(c.Lower, c.Upper, c.Work)
	if err != nil {
		a.fail(err)
		return
	}
	at, _ := filepath.Rel(base, c.Lower[0]) // both are absolute
	a.do("enter "+base, unix.SYS_CHDIR, base)
	a.do("mount overlay of "+strings.Join(c.Lower, ":"), unix.SYS_MOUNT, "overlay", at, "overlay", 0, options)
	a.do("enter root", unix.SYS_CHDIR, at)
}

// overlayOptions returns the options of an overlay mount, and the folder that
// the names in them are told from.
func overlayOptions(lower []string, upper, work string) (base, options string, err error) {
	if len(lower) == 0 {
		return "", "", errors.New("no root: Lower is empty")
	}
	all := append([]string{}, lower...)
	if upper != "" {
		all = append(all, upper, work)
	}
	for _, dir := range all {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
			return "", "", fmt.Errorf("layer %q is no absolute, clean path", dir)
		}
	}
	base = commonDir(all)
	names := make([]string, len(all))
	for i, dir := range all {
		names[i], _ = filepath.Rel(base, dir)
	}
	options = "lowerdir=" + strings.Join(escape(names[:len(lower)], `\:,`), ":")
	if upper != "" {
		rest := escape(names[len(lower):], `\,`)
		options += ",upperdir=" + rest[0] + ",workdir=" + rest[1] + ",volatile"
	}
	if len(options) > maxOptions {
		return "", "", fmt.Errorf("%d layers: their names take %d bytes, and overlay takes %d", len(lower), len(options), maxOptions)
	}
	return base, options, nil
}

// escape puts a backslash before each of special in names.
func escape(names []string, special string) []string {
	var pairs []string
	for _, r := range special {
		pairs = append(pairs, string(r), `\`+string(r))
	}
	replace := strings.NewReplacer(pairs...)
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = replace.Replace(name)
	}
	return out
}

// commonDir returns the folder that all of dirs are below. None of dirs itself
// is the result, so that each has a name.
func commonDir(dirs []string) string {
	base := filepath.Dir(dirs[0])
	for _, dir := range dirs[1:] {
		for base != "/" && !strings.HasPrefix(dir, base+"/") {
			base = filepath.Dir(base)
		}
	}
	return base
}

// detach clones the source of a bind, attached nowhere yet: once the host's
// root is gone, no name leads there any more.
func (m *boundMount) detach(a *assembler) {
	if m.Type != "bind" {
		return
	}
	words := fmt.Sprintf("bind %s to %s", m.Source, m.Target)
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	if m.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	m.tree = a.do(words, unix.SYS_OPEN_TREE, unix.AT_FDCWD, m.Source, flags).out()
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if strings.HasSuffix(m.Propagation, "slave") {
		attr.Propagation = unix.MS_SLAVE
	}
	if m.ReadOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	a.mountAttr(words, m.tree, attr, true)
}

// mountAttr changes a mount that is held by its file descriptor, with those
// below it where all is true (mount_setattr(2)).
func (a *assembler) mountAttr(words string, tree register, attr unix.MountAttr, all bool) {
	flags := unix.AT_EMPTY_PATH
	if all {
		flags |= unix.AT_RECURSIVE
	}
	at := a.words64(attr.Attr_set, attr.Attr_clr, attr.Propagation, attr.Userns_fd)
	a.do(words, unix.SYS_MOUNT_SETATTR, tree, "", flags, at, sizeofMountAttr)
}
