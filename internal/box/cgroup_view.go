package box

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// detach clones the container's own cgroups, to be read only, while their
// place on the host can still be named.
func (c *Cgroup) detach(a *assembler, to *container) {
	if c == nil {
		return
	}
	for _, root := range c.roots() {
		dir := filepath.Join(root, c.name)
		words := "show cgroup " + dir
		tree := a.do(words, unix.SYS_OPEN_TREE, unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).out()
		a.mountAttr(words, tree, unix.MountAttr{Attr_set: noSuidDevExec | readOnly, Propagation: unix.MS_PRIVATE}, false)
		to.cgroupTrees = append(to.cgroupTrees, tree)
	}
}

// show attaches them below /sys/fs/cgroup as the host has them: version 2 is
// that folder itself, version 1 a folder for each hierarchy in it.
func (c *Cgroup) show(a *assembler, to *container) {
	const at, words = "fs/cgroup", "mount /sys/fs/cgroup"
	if len(c.v1) == 0 {
		a.moveTo(words, to.cgroupTrees[0], to.sysTree, at)
		return
	}
	folder := a.mountFS(words, "tmpfs", noSuidDevExec, "mode", "755", "size", "65536k")
	for i, root := range c.roots() {
		name := filepath.Base(root)
		if root == c.v2 {
			name = "unified"
		}
		a.do(words, unix.SYS_MKDIRAT, folder, name, 0o755)
		_ = i
	}
	a.moveTo(words, folder, to.sysTree, at)
	for i, root := range c.roots() {
		name := filepath.Base(root)
		if root == c.v2 {
			name = "unified"
		}
		a.moveTo(words, to.cgroupTrees[i], folder, name)
	}
	a.mountAttr(words, folder, unix.MountAttr{Attr_set: readOnly}, false)
}
