package box

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/stage"
)

// A container with a user namespace of its own is made by the host's root, and
// joins that namespace last: it has no power over the mounts, the network and
// the host name that it was given, not even as its root. Its layers are shown
// through mounts that shift owners (mount_setattr(2), MOUNT_ATTR_IDMAP), so
// that what is on disk is the same as without.
//
//	on disk 0 … 65535 ──idmapped mount──▶ 100000 … 165535 ──user namespace──▶ 0 … 65535 inside

// userNS returns a user namespace with a map. One serves all containers with
// the same map; it lives as long as the Launcher.
func (l *Launcher) userNS(ctx context.Context, m IDMap) (*os.File, error) {
	l.maps.Lock()
	defer l.maps.Unlock()
	if users, ok := l.users[m]; ok {
		return users, nil
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	a := newAssembler(int(firstStatic - status))
	a.Flags = unix.CLONE_NEWUSER
	a.process()
	a.do("ask for a map", unix.SYS_WRITE, status, string(rune(stage.Map)), 1)
	a.do("wait for a map", unix.SYS_RECVFROM, status, a.bytes(make([]byte, 1)), 1, 0, 0, 0).flag(stage.NonZero)
	b := &birth{l: l, a: a, idMap: &m}
	p, err := b.run(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("make user namespace: %w", err)
	}
	p.Wait()
	l.users[m] = b.users
	return b.users, nil
}

func (m IDMap) check() error {
	if m.HostID == 0 || m.Size == 0 || uint64(m.HostID)+uint64(m.Size) > math.MaxUint32 {
		return fmt.Errorf("user namespace: ids %d and %d more cannot be mapped", m.HostID, m.Size)
	}
	var u unix.Utsname
	var major, minor int
	err := unix.Uname(&u)
	if err == nil {
		_, err = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	}
	if err == nil && (major < 5 || major == 5 && minor < 19) {
		return fmt.Errorf("user namespace: this is Linux %d.%d, and overlay takes layers with shifted owners from 5.19 on: %w", major, minor, experiment.ErrUnsupported)
	}
	return err
}

// mapUsers gives the namespace of a process that does nothing but hold it its
// map, opens it, and ends the process.
func (b *birth) mapUsers() error {
	dir := filepath.Join(b.l.fs.Proc, strconv.Itoa(b.pid))
	line := fmt.Sprintf("0 %d %d", b.idMap.HostID, b.idMap.Size)
	for _, file := range []string{"uid_map", "gid_map"} {
		if err := write(filepath.Join(dir, file), line); err != nil {
			return fmt.Errorf("map ids: %w", err)
		}
	}
	var err error
	b.users, err = os.Open(filepath.Join(dir, "ns/user"))
	_ = b.p.Kill()
	return err
}

// joinUsers joins its user namespace.
func (c *container) joinUsers(a *assembler) {
	if c.UserNS != nil {
		a.do("join its user namespace", unix.SYS_SETNS, users, unix.CLONE_NEWUSER)
	}
}

// mapLayers covers each layer by itself with owners shifted, in this mount
// namespace alone.
func (c *container) mapLayers(a *assembler) {
	if c.UserNS == nil {
		return
	}
	dirs := append([]string{}, c.Lower...)
	if c.Upper != "" {
		dirs = append(dirs, commonDir([]string{c.Upper, c.Work})) // overlay wants both on one mount
	}
	for _, dir := range dirs {
		words := "shift owners of " + dir
		tree := a.do(words, unix.SYS_OPEN_TREE, unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).into(a.scratch(0))
		a.shift(words, tree, false)
		a.do(words, unix.SYS_MOVE_MOUNT, tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
}

// mapBind shifts the owners of what is bound, where its file system can:
// otherwise it belongs to nobody inside.
func (c *container) mapBind(a *assembler, m *boundMount) {
	if c.UserNS != nil && m.Type == "bind" {
		a.shift("shift owners of "+m.Source, m.tree, true).allow(unix.EINVAL)
	}
}

// shift shifts the owners of a detached mount. The descriptor of the user
// namespace becomes a number in struct mount_attr.
func (a *assembler) shift(words string, tree register, all bool) op {
	flags := unix.AT_EMPTY_PATH
	if all {
		flags |= unix.AT_RECURSIVE
	}
	attr := a.words64(unix.MOUNT_ATTR_IDMAP, 0, 0, 0)
	a.do(words, stage.CallStore, attr+24, users)
	return a.do(words, unix.SYS_MOUNT_SETATTR, tree, "", flags, attr, sizeofMountAttr)
}

// asItsRoot makes what is made from here on belong to the container's root:
// what the host's root makes there has no owner inside, and an overlay that is
// mounted by it can only be read. The change of the user for files takes away
// capabilities on files, which it still has the right to.
func (c *container) asItsRoot(a *assembler) {
	if c.UserNS == nil {
		return
	}
	const words = "make files for the root of its user namespace"
	id := int(c.UserNS.HostID)
	a.do(words, unix.SYS_SETFSGID, id)
	a.do(words, unix.SYS_SETFSUID, id)
	a.holdCapabilities(words, c.host.caps)
}

// hostID is what an id inside is on the host.
func (c *container) hostID(id uint32) string {
	if c.UserNS != nil {
		id += c.UserNS.HostID
	}
	return strconv.FormatUint(uint64(id), 10)
}
