package box

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ownBinary opens this very program through a mount of its own that can only
// be read, and that is attached nowhere. A container that gets hold of
// /proc/PID/exe of a process which has not become another program yet cannot
// write to the host's binary through it (CVE-2019-5736).
func ownBinary() (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/exe", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return binaryCopy(fmt.Errorf("clone its mount: %w", err))
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(fd)
		return binaryCopy(fmt.Errorf("make its mount read-only: %w", err))
	}
	return os.NewFile(uintptr(fd), "simian"), nil
}

// binaryCopy is for where the binary's mount is not this mount namespace's, or
// it was replaced on disk: a copy in memory that is sealed.
func binaryCopy(why error) (*os.File, error) {
	fd, err := unix.MemfdCreate("simian", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("open own binary: %w; copy it: %w", why, err)
	}
	memory := os.NewFile(uintptr(fd), "simian")
	disk, err := os.Open("/proc/self/exe")
	if err == nil {
		defer disk.Close()
		_, err = memory.ReadFrom(disk)
	}
	if err == nil {
		_, err = unix.FcntlInt(memory.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		memory.Close()
		return nil, fmt.Errorf("open own binary: %w; copy it: %w", why, err)
	}
	return memory, nil
}

// high moves a file to a descriptor that a child's own files are never put at.
func high(f *os.File, err error) (*os.File, error) {
	const lowest = 16
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, lowest)
	if err != nil {
		return nil, fmt.Errorf("keep own binary open: %w", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
