package box

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// hidden is a path below /proc or /sys that tells or does too much.
type hidden struct {
	sys  bool // below /sys, else below /proc
	name string
	dir  bool
}

// masked are the paths that Docker hides
// (github.com/moby/moby, daemon/pkg/oci/defaults.go), but for /sys/firmware,
// which hide does first. Many are not there on many kernels.
func masked() []hidden {
	return []hidden{
		{false, "acpi", true},
		{false, "asound", true},
		{false, "interrupts", false},
		{false, "kcore", false},
		{false, "keys", false},
		{false, "latency_stats", false},
		{false, "sched_debug", false},
		{false, "scsi", true},
		{false, "timer_list", false},
		{false, "timer_stats", false},
		{true, "devices/virtual/powercap", true},
	}
}

// throttles returns the folders that tell how warm each processor is, from
// which other processes' work can be read.
func throttles(sys string) (list []hidden) {
	paths, _ := filepath.Glob(filepath.Join(sys, "devices/system/cpu/cpu*/thermal_throttle")) // the pattern is well-formed
	for _, path := range paths {
		name, _ := filepath.Rel(sys, path)
		list = append(list, hidden{true, name, true})
	}
	return list
}

// fixed are the paths of /proc that can be read only, as Docker has it.
func fixed() []string { return []string{"bus", "fs", "irq", "sys", "sysrq-trigger"} }

// hide covers masked paths, a folder by an empty one and a file by /dev/null,
// and makes others read-only. A mount that is attached nowhere can't be cloned
// before Linux 6.15, so the first empty folder goes where there always is one
// to hide.
func (c *container) hide(a *assembler) {
	words := "hide /sys/firmware"
	empty := a.mountFS(words, "tmpfs", noSuidDevExec|readOnly, "size", "0", "mode", "755")
	a.moveTo(words, empty, c.sysTree, "firmware")
	for _, h := range append(masked(), c.host.throttles...) {
		c.cover(a, h, empty)
	}
	for _, name := range fixed() {
		words, tree := "make /proc/"+name+" read-only", a.scratch(0)
		a.do(words, unix.SYS_OPEN_TREE, c.procTree, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE).allow(unix.ENOENT).skip(0, 2).into(tree)
		a.mountAttr(words, tree, unix.MountAttr{Attr_set: readOnly | noSuidDevExec}, true)
		a.moveTo(words, tree, c.procTree, name)
	}
}

// cover hides one path, where it is there.
func (c *container) cover(a *assembler, h hidden, empty register) {
	words, in, over, lid := "hide /proc/"+h.name, c.procTree, a.scratch(0), a.scratch(1)
	if h.sys {
		words, in = "hide /sys/"+h.name, c.sysTree
	}
	a.openAt(words, in, h.name, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS).allow(unix.ENOENT).skip(0, 2).into(over)
	from, name, flags := c.devTree, "null", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC
	if h.dir {
		from, name, flags = empty, "", flags|unix.AT_EMPTY_PATH
	}
	a.do(words, unix.SYS_OPEN_TREE, from, name, flags).into(lid)
	a.moveTo(words, lid, over, "")
}
