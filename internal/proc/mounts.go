package proc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Mount is one mount as a process sees it (proc_pid_mountinfo(5)).
type Mount struct {
	ID, Parent  uint64 // reused once a mount is gone: see MountOf
	Device      string // of its file system: "8:1"
	Root        string // what of the file system is mounted
	Point       string // where, from the process's root
	Options     string // of the mount: "rw,relatime"
	Propagation string // "shared:12 master:3", or ""
	Kind        string // ext4, tmpfs, overlay …
	Source      string
	Super       string // options of the file system
}

// Mounts returns the mounts that a process sees from its root.
func (f FS) Mounts(pid int) ([]Mount, error) {
	data, err := readFile(f.path(pid, "mountinfo"), false)
	if err != nil {
		return nil, f.failure("read mountinfo", pid, err)
	}
	var list []Mount
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		m, err := parseMount(line)
		if err != nil {
			return nil, err
		}
		ids := strings.Fields(line)
		id, err1 := strconv.ParseUint(ids[0], 10, 64)
		parent, err2 := strconv.ParseUint(ids[1], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("read mountinfo: %w", err)
		}
		list = append(list, Mount{
			ID: id, Parent: parent, Device: m.device, Root: m.root, Point: m.point, Options: m.options,
			Propagation: m.optional, Kind: m.kind, Source: m.source, Super: m.super,
		})
	}
	return list, nil
}

// MountAt tells in which mount an open file is: its id as in mountinfo, and
// one that is never used again where the kernel has such (Linux 6.8), else 0;
// and whether the file is the root of that mount.
func MountAt(fd int) (id, unique uint64, root bool, err error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st); err != nil {
		return 0, 0, false, fmt.Errorf("ask in which mount a file is: %w", err)
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, 0, false, fmt.Errorf("ask in which mount a file is: this kernel does not say, Linux 5.8 does: %w", experiment.ErrUnsupported)
	}
	id, root = st.Mnt_id, st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID_UNIQUE, &st); err == nil && st.Mask&unix.STATX_MNT_ID_UNIQUE != 0 {
		unique = st.Mnt_id
	}
	return id, unique, root, nil
}

// MountOf returns the mount that an open file of process pid is in, and its
// unique id, 0 where the kernel has none.
func (f FS) MountOf(pid, fd int) (m Mount, unique uint64, root bool, err error) {
	id, unique, root, err := MountAt(fd)
	if err != nil {
		return Mount{}, 0, false, err
	}
	list, err := f.Mounts(pid)
	if err != nil {
		return Mount{}, 0, false, err
	}
	for _, m := range list {
		if m.ID == id {
			return m, unique, root, nil
		}
	}
	return Mount{}, 0, false, fmt.Errorf("mount %d is not among those that pid %d sees: %w", id, pid, experiment.ErrGone)
}

// OpenInside opens a path as the process p sees it (openat2(2)). Links in it
// stay below the root of p, magic links of proc are refused. The error is
// experiment.ErrGone where p is.
func (f FS) OpenInside(p experiment.ProcessID, path string, flags int) (int, error) {
	root, err := unix.Open(f.path(p.PID, "root"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if !f.Alive(p) {
		err = errors.Join(experiment.ErrGone, err)
	}
	if root >= 0 {
		defer unix.Close(root)
	}
	if err != nil {
		return -1, fmt.Errorf("open the root of %s: %w", p, err)
	}
	fd, err := openat2(root, path, flags)
	if errors.Is(err, unix.ELOOP) {
		err = fmt.Errorf("%w: it leads out by a magic link, or in a circle", err)
	}
	if err != nil {
		return -1, fmt.Errorf("open %s in %s: %w", path, p, err)
	}
	return fd, nil
}

// openat2 opens path below root. EAGAIN says that something was renamed or
// mounted on the host meanwhile: the same again may succeed.
func openat2(root int, path string, flags int) (fd int, err error) {
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range 1000 {
		fd, err = unix.Openat2(root, path, how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return fd, err
}

// InMount runs fn on a thread in the mount namespace ns, whose root is the
// thread's then (namespaces(7)). Where the process it was found by is gone, one
// of others that is in it serves. It gives experiment.ErrGone where none is.
func (f FS) InMount(ns experiment.Namespace, others []experiment.ProcessID, fn func() error) error {
	for _, via := range append([]experiment.ProcessID{ns.Via}, others...) {
		fd, err := openInode(f.path(via.PID, "ns", "mnt"), ns.Inode)
		if err != nil && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)) {
			return err
		}
		if err != nil {
			continue
		}
		defer unix.Close(fd)
		if f.Alive(via) {
			return doIn(fd, "mount namespace "+strconv.FormatUint(ns.Inode, 10), fn)
		}
	}
	return fmt.Errorf("mount namespace %d: %w", ns.Inode, experiment.ErrGone)
}

// Living returns the first of ids that lives in the mount namespace ns.
func (f FS) Living(ns experiment.Namespace, ids []experiment.ProcessID) (experiment.ProcessID, error) {
	for _, id := range append([]experiment.ProcessID{ns.Via}, ids...) {
		now, err := inodeOf(f.path(id.PID, "ns", "mnt"))
		if err == nil && now == ns.Inode && f.Alive(id) {
			return id, nil
		}
	}
	return experiment.ProcessID{}, fmt.Errorf("mount namespace %d: %w", ns.Inode, experiment.ErrGone)
}
