package op

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// MountPoint is a mount of a target, by identity.
type MountPoint struct {
	Run       experiment.RunID       `json:"run"`
	Target    string                 `json:"target"` // its name, for people
	Namespace experiment.Namespace   `json:"namespace"`
	Processes []experiment.ProcessID `json:"processes"` // in it: any of them leads there
	Point     string                 `json:"point"`     // from their root
	File      bool                   `json:"file,omitzero"`
	ID        uint64                 `json:"id"`              // in mountinfo; used again once the mount is gone
	Unique    uint64                 `json:"unique,omitzero"` // never used again (STATX_MNT_ID_UNIQUE); 0 before Linux 6.8
	Device    string                 `json:"device"`
	Root      string                 `json:"root"`
	Kind      string                 `json:"kind"`
	Source    string                 `json:"source"`
}

// FindMount returns the mount point at a path of a target.
func FindMount(fs proc.FS, run experiment.RunID, t experiment.Target, name string) (MountPoint, error) {
	if len(t.PIDs) == 0 || t.Mount.Inode == 0 {
		return MountPoint{}, fmt.Errorf("it has no process here whose mounts can be read: %w", experiment.ErrUnsupported)
	}
	p := t.PIDs[0]
	fd, err := fs.OpenInside(p, name, unix.O_PATH)
	if err != nil {
		return MountPoint{}, err
	}
	defer unix.Close(fd)
	m, unique, root, err := fs.MountOf(p.PID, fd)
	if err != nil {
		return MountPoint{}, err
	}
	if !root {
		return MountPoint{}, fmt.Errorf("%s is no mount point: it is in the mount at %s (%s %s)", name, m.Point, m.Kind, m.Source)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return MountPoint{}, fmt.Errorf("look at %s: %w", name, err)
	}
	return MountPoint{
		Run: run, Target: t.Name, Namespace: t.Mount, Processes: t.PIDs, Point: m.Point, File: st.Mode&unix.S_IFMT != unix.S_IFDIR,
		ID: m.ID, Unique: unique, Device: m.Device, Root: m.Root, Kind: m.Kind, Source: m.Source,
	}, nil
}

// CheckDetachable refuses a mount that must stay, or could not be put back:
// whole says that it is unmounted, not covered.
func CheckDetachable(fs proc.FS, at MountPoint, whole bool) error {
	if err := at.checkNamespace(fs); err != nil {
		return err
	}
	if err := at.checkKind(); err != nil {
		return err
	}
	list, err := fs.Mounts(at.Processes[0].PID)
	if err != nil {
		return err
	}
	here := slices.IndexFunc(list, func(m proc.Mount) bool { return m.ID == at.ID })
	if here < 0 {
		return fmt.Errorf("the mount at %s: %w", at.Point, experiment.ErrGone)
	}
	if !whole {
		return at.checkCover(list[here])
	}
	return at.checkUnmount(list, list[here])
}

func (at *MountPoint) checkKind() error {
	kernel := []string{"proc", "sysfs", "cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue", "securityfs", "bpf", "debugfs", "tracefs", "nsfs"}
	below := func(dir string) bool { return at.Point == dir || strings.HasPrefix(at.Point, dir+"/") }
	switch {
	case at.Point == "/":
		return fmt.Errorf("it is the root of the target: %w", experiment.ErrProtected)
	case below("/proc"), below("/sys"), below("/dev"), slices.Contains(kernel, at.Kind):
		return fmt.Errorf("%s (%s) is a view of the kernel that the target, and an undo, need: %w", at.Point, at.Kind, experiment.ErrProtected)
	}
	return nil
}

// checkNamespace refuses a mount namespace that others live in.
func (at *MountPoint) checkNamespace(fs proc.FS) error {
	const way = "give the target one of its own: launch it as a container of a lab, or start it by unshare -m"
	own, err := fs.Namespace(os.Getpid(), "mnt")
	if err != nil {
		return err
	}
	if first, err := fs.Namespace(1, "mnt"); own.Inode == at.Namespace.Inode || err == nil && first.Inode == at.Namespace.Inode {
		return fmt.Errorf("its mounts are the host's: %w (%s)", experiment.ErrProtected, way)
	}
	pids, err := fs.PIDs()
	if err != nil {
		return err
	}
	protected, err := fs.Protected()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		ns, err := fs.Namespace(pid, "mnt")
		if err != nil || ns.Inode != at.Namespace.Inode {
			continue
		}
		if why := protected.Why(pid); why != "" {
			return fmt.Errorf("its mounts are those of pid %d too, which is %s: %w (%s)", pid, why, experiment.ErrProtected, way)
		}
	}
	return nil
}

const shared = "shared:"

func (at *MountPoint) checkCover(m proc.Mount) error {
	switch {
	case at.File:
		return fmt.Errorf("%s is a file, which cannot be covered by a folder: say how: unmount: %w", at.Point, experiment.ErrUnsupported)
	case strings.Contains(m.Propagation, shared):
		return fmt.Errorf("%s is shared with other mount namespaces (%s), where the cover would come too: %w (say how: unmount, or mount it rprivate or rslave)", at.Point, m.Propagation, experiment.ErrUnsupported)
	}
	return nil
}

func (at *MountPoint) checkUnmount(list []proc.Mount, m proc.Mount) error {
	if strings.Contains(m.Propagation, "unbindable") {
		return fmt.Errorf("%s is unbindable, so it cannot be cloned: %w (say how: cover)", at.Point, experiment.ErrUnsupported)
	}
	for _, other := range list {
		switch {
		case other.ID == m.ID:
		case other.Point == at.Point:
			return fmt.Errorf("two mounts are at %s, one over the other: %w (say how: cover)", at.Point, experiment.ErrUnsupported)
		case other.Parent == m.ID:
			return fmt.Errorf("%s is mounted below %s, and would go with it: %w (say how: cover, or detach that one)", other.Point, at.Point, experiment.ErrUnsupported)
		case other.ID == m.Parent && strings.Contains(other.Propagation, shared):
			return fmt.Errorf("%s is on %s, which is shared with other mount namespaces (%s): it would be unmounted there too: %w (say how: cover)", at.Point, other.Point, other.Propagation, experiment.ErrUnsupported)
		}
	}
	return nil
}

// what gives "ext4 /dev/vdb".
func (at *MountPoint) what() string { return at.Kind + " " + at.Source }

// mark is the source of the mounts that a run makes.
func (at *MountPoint) mark() string { return "simian-" + string(at.Run) }

// handle names the mount for a lock.
func (at *MountPoint) handle() string {
	return fmt.Sprintf("mount:%d:%d:%s", at.Namespace.Inode, max(at.ID, at.Unique), at.Point)
}

// key tells it from others of the run.
func (at *MountPoint) key() string {
	h := fnv.New32a()
	fmt.Fprint(h, at.handle()) // never fails
	return fmt.Sprintf("%s-%08x", at.Run, h.Sum32())
}

// there is what is at the point now.
type there struct {
	fd     int // of the folder or file that shows there (O_PATH)
	parent int // of the folder it is in
	proc.Mount
	unique uint64
	root   bool // it is a mount's root
	via    experiment.ProcessID
}

func (h *there) close() {
	_ = unix.Close(h.fd)
	_ = unix.Close(h.parent)
}

// look opens what is at the point now. The error is experiment.ErrGone where
// nobody of the target is left.
func (at *MountPoint) look(fs proc.FS) (*there, error) {
	via, err := fs.Living(at.Namespace, at.Processes)
	if err != nil {
		return nil, err
	}
	h := &there{via: via}
	if h.parent, err = fs.OpenInside(via, path.Dir(at.Point), unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return nil, err
	}
	if h.fd, err = fs.OpenInside(via, at.Point, unix.O_PATH|unix.O_NOFOLLOW); err == nil {
		h.Mount, h.unique, h.root, err = fs.MountOf(via.PID, h.fd)
	}
	if err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// same tells whether the very mount is there. One that was put back has other
// ids: it is told by what is mounted.
func (at *MountPoint) same(h *there) bool {
	if at.Unique != 0 {
		return h.root && h.unique == at.Unique
	}
	return h.root && h.ID == at.ID && at.alike(h)
}

// alike tells whether the same of the same file system is mounted there.
func (at *MountPoint) alike(h *there) bool {
	return h.root && h.Device == at.Device && h.Mount.Root == at.Root && h.Kind == at.Kind && h.Source == at.Source
}

// ours tells whether a mount of this run is there.
func (at *MountPoint) ours(h *there) bool {
	return h.root && h.Kind == "tmpfs" && h.Source == at.mark()
}

// inside runs fn on a thread in the target's mount namespace.
func (at *MountPoint) inside(fs proc.FS, fn func() error) error {
	return fs.InMount(at.Namespace, at.Processes, fn)
}

// detach unmounts what h is, lazily, on a thread in its namespace. A folder is
// named by itself: nothing that is mounted or renamed meanwhile is taken for
// it. A file is named from its folder.
func (h *there) detach(file bool) error {
	dir, name := h.fd, "."
	if file {
		dir, name = h.parent, path.Base(h.Point)
	}
	if err := unix.Fchdir(dir); err != nil {
		return fmt.Errorf("enter %s: %w", h.Point, err)
	}
	err := unix.Unmount(name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("%w: it is locked by a user namespace, or not there any more", err)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", h.Point, err)
	}
	return nil
}

// newTmpfs makes a tmpfs that is mounted nowhere yet (fsopen(2)).
func newTmpfs(source, bytes, mode string, attrs int) (fd int, err error) {
	ctx, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("make a tmpfs: %w", err)
	}
	defer unix.Close(ctx)
	for key, value := range map[string]string{"source": source, "size": bytes, "mode": mode} {
		err = errors.Join(err, unix.FsconfigSetString(ctx, key, value))
	}
	if err == nil {
		err = unix.FsconfigCreate(ctx)
	}
	if err == nil {
		fd, err = unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC|attrs)
	}
	if err != nil {
		return -1, fmt.Errorf("make a tmpfs: %w", err)
	}
	return fd, nil
}

// attach mounts the detached mount what at the open file where.
func attach(what, where int) error {
	return unix.MoveMount(what, "", where, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}
