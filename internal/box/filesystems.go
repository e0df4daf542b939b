package box

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// defaultShm is the size of /dev/shm unless a Spec says otherwise, in bytes
// (as Docker has it).
const defaultShm = 64 << 20

// Flags of the mounts that every container has.
const (
	noSuidDevExec = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	readOnly      = unix.MOUNT_ATTR_RDONLY
)

// fileSystems mounts all that a container has besides its root. /proc comes
// after what the Compose file has mounted, so that no link of the image can
// lead a mount into it.
func (c *container) fileSystems(a *assembler) {
	c.dev(a)
	c.sys(a)
	for i := range c.mounts {
		c.attach(a, &c.mounts[i])
	}
	c.procfs(a)
	c.sysctls(a)
	c.hide(a)
}

// mountFS makes a new file system, attached nowhere yet. Options are pairs.
func (a *assembler) mountFS(words, kind string, attrs int, options ...string) register {
	fs := a.do(words, unix.SYS_FSOPEN, kind, unix.FSOPEN_CLOEXEC).into(a.scratch(0))
	for i := 0; i+1 < len(options); i += 2 {
		a.do(words+": "+options[i]+"="+options[i+1], unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_STRING, options[i], options[i+1], 0)
	}
	a.do(words, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	tree := a.do(words, unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, attrs).out()
	a.do(words, unix.SYS_CLOSE, fs)
	return tree
}

// moveTo attaches a mount to name below dir, or to dir itself.
func (a *assembler) moveTo(words string, tree, dir register, name string) op {
	flags := unix.MOVE_MOUNT_F_EMPTY_PATH
	if name == "" {
		flags |= unix.MOVE_MOUNT_T_EMPTY_PATH
	}
	return a.do(words, unix.SYS_MOVE_MOUNT, tree, "", dir, name, flags)
}

// own mounts a file system on a folder of the root that must be no link.
func (c *container) own(a *assembler, words, dir, kind string, attrs int, options ...string) register {
	at := c.dirAt(a, words, dir, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS)
	tree := a.mountFS(words, kind, attrs, options...)
	a.moveTo(words, tree, at, "")
	return tree
}

// node is a device that every container has.
type node struct {
	name         string
	major, minor uint32
}

// nodes are those that Docker gives.
func nodes() []node {
	return []node{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}
}

// dev makes /dev: a few devices, terminals of its own, shared memory, message
// queues.
func (c *container) dev(a *assembler) {
	c.devTree = c.own(a, "mount /dev", "/dev", "tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_STRICTATIME, "mode", "755", "size", "65536k")
	for _, n := range nodes() {
		a.do("make /dev/"+n.name, unix.SYS_MKNODAT, c.devTree, n.name, unix.S_IFCHR|0o666, unix.Mkdev(n.major, n.minor))
	}
	for _, link := range [][2]string{
		{"/proc/self/fd", "fd"},
		{"/proc/self/fd/0", "stdin"},
		{"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"},
		{"/proc/kcore", "core"},
		{"pts/ptmx", "ptmx"},
	} {
		a.do("make /dev/"+link[1], unix.SYS_SYMLINKAT, link[0], c.devTree, link[1])
	}
	shm := c.ShmBytes
	if shm == 0 {
		shm = defaultShm
	}
	for _, m := range []struct {
		name, kind string
		attrs      int
		options    []string
	}{
		{"pts", "devpts", unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC, []string{"mode", "0620", "ptmxmode", "0666", "gid", c.hostID(5)}},
		{"shm", "tmpfs", noSuidDevExec, []string{"mode", "1777", "size", strconv.FormatInt(shm, 10)}},
		{"mqueue", "mqueue", noSuidDevExec, nil},
	} {
		words := "mount /dev/" + m.name
		a.do(words, unix.SYS_MKDIRAT, c.devTree, m.name, 0o755)
		a.moveTo(words, a.mountFS(words, m.kind, m.attrs, m.options...), c.devTree, m.name)
	}
}

// sys makes /sys, read-only, with the container's own cgroups in it.
func (c *container) sys(a *assembler) {
	c.sysTree = c.own(a, "mount /sys", "/sys", "sysfs", noSuidDevExec|readOnly)
	if c.Cgroup != nil {
		c.Cgroup.show(a, c)
	}
}

// attach mounts what the Compose file asks for.
func (c *container) attach(a *assembler, m *boundMount) {
	words := fmt.Sprintf("bind %s to %s", m.Source, m.Target)
	if m.Type == "tmpfs" {
		words = "mount tmpfs " + m.Target
		attrs, options := m.tmpfs()
		at := c.dirAt(a, words, m.Target, inside)
		a.moveTo(words, a.mountFS(words, "tmpfs", attrs, options...), at, "")
		return
	}
	at := c.dirOrFile(a, words, m)
	a.moveTo(words, m.tree, at, "")
}

func (c *container) dirOrFile(a *assembler, words string, m *boundMount) register {
	if m.file {
		return c.fileAt(a, words, m.Target)
	}
	return c.dirAt(a, words, m.Target, inside)
}

// tmpfs returns the flags and options of a tmpfs.
func (m *Mount) tmpfs() (attrs int, options []string) {
	attrs = noSuidDevExec
	flags := map[string]int{"suid": unix.MOUNT_ATTR_NOSUID, "dev": unix.MOUNT_ATTR_NODEV, "exec": unix.MOUNT_ATTR_NOEXEC}
	for _, o := range m.Options {
		name, value, pair := strings.Cut(o, "=")
		switch {
		case pair:
			options = append(options, name, value)
		case strings.HasPrefix(o, "no"):
			attrs |= flags[o[2:]]
		default:
			attrs &^= flags[o]
		}
	}
	if m.ReadOnly {
		attrs |= readOnly
	}
	mode := m.Mode
	if mode == 0 {
		mode = 0o1777
	}
	options = append(options, "mode", strconv.FormatUint(uint64(mode), 8))
	if m.SizeBytes > 0 {
		options = append(options, "size", strconv.FormatInt(m.SizeBytes, 10))
	}
	return attrs, options
}

// procfs makes /proc, of the container's own PID namespace.
func (c *container) procfs(a *assembler) {
	c.procTree = c.own(a, "mount /proc", "/proc", "proc", noSuidDevExec)
}

// sysctls sets kernel parameters of the container's namespaces, while
// /proc/sys can be written.
func (c *container) sysctls(a *assembler) {
	for _, name := range names(c.Sysctls) {
		words, value := "set sysctl "+name, c.Sysctls[name]
		file := a.do(words, unix.SYS_OPENAT, c.procTree, "sys/"+sysctlPath(name), unix.O_WRONLY|unix.O_CLOEXEC, 0).into(a.scratch(0))
		a.do(words+"="+value, unix.SYS_WRITE, file, value, len(value))
		a.do(words, unix.SYS_CLOSE, file)
	}
}

// sysctlPath returns the file of a kernel parameter (sysctl(8)): of . and /
// the one that comes first separates.
func sysctlPath(name string) string {
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '/' {
		return name
	}
	return strings.NewReplacer(".", "/", "/", ".").Replace(name)
}

// workingDir makes the folder where the command starts, and enters it. All
// links in its path were followed inside the container's root.
func (c *container) workingDir(a *assembler) {
	dir := path.Clean("/" + c.Dir)
	words := "enter working directory " + dir
	at := c.dirAt(a, words, dir, inside)
	if c.ReadOnly && c.Upper != "" {
		a.mountAttr("make root read-only", c.top, unix.MountAttr{Attr_set: readOnly}, false)
	}
	a.do(words, unix.SYS_FCHDIR, at)
	a.checkInside(words)
}

// checkInside makes sure that the present folder is below the root:
// getcwd(2) says "(unreachable)" where it is not.
func (a *assembler) checkInside(words string) {
	buffer := a.bytes(make([]byte, 4096))
	a.do(words, unix.SYS_GETCWD, buffer, 4096)
	a.do(words, callByte, buffer, int('/'))
}
