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
	for _, root := range c.roots() {
		a.do(words, unix.SYS_MKDIRAT, folder, c.folder(root), 0o755)
	}
	for _, controller := range names(c.links) {
		a.do(words, unix.SYS_SYMLINKAT, c.links[controller], folder, controller)
	}
	a.moveTo(words, folder, to.sysTree, at)
	for i, root := range c.roots() {
		a.moveTo(words, to.cgroupTrees[i], folder, c.folder(root))
	}
	a.mountAttr(words, folder, unix.MountAttr{Attr_set: readOnly}, false)
}

// folder is what a hierarchy is called below /sys/fs/cgroup.
func (c *Cgroup) folder(root string) string {
	if root == c.v2 {
		return "unified"
	}
	return filepath.Base(root)
}
