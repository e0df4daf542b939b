package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// mounts would change what is mounted, or uncover what is covered.
func mounts() []attempt {
	return []attempt{
		mounting("mount a tmpfs", "none", "tmpfs", ""),
		mounting("mount proc anew", "proc", "proc", ""),
		mounting("mount sysfs anew", "sysfs", "sysfs", ""),
		mounting("mount devtmpfs", "none", "devtmpfs", ""),
		mounting("mount debugfs", "none", "debugfs", ""),
		mounting("mount an overlay", "overlay", "overlay", "lowerdir=/vol:/dev"),
		mounting("mount the host's disk", "/host-disk", "ext4", ""),
		mounting("mount NFS", "127.0.0.1:/", "nfs", "addr=127.0.0.1"),
		{name: "bind / elsewhere", try: func() error { return unix.Mount("/", "/mnt", "", unix.MS_BIND|unix.MS_REC, "") }},
		remounting("/"),
		remounting("/proc"),
		remounting("/proc/sys"),
		remounting("/sys"),
		remounting("/dev"),
		{name: "make / shared", try: func() error { return unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, "") }},
		uncovering("/proc/kcore"),
		uncovering("/proc/sys"),
		uncovering("/sys/firmware"),
		uncovering("/proc"),
		uncovering("/"),
		call("pivot_root", unix.SYS_PIVOT_ROOT, text("."), text(".")),
		call("fsopen", unix.SYS_FSOPEN, text("tmpfs"), 0),
		call("open_tree", unix.SYS_OPEN_TREE, atCwd, text("/"), unix.OPEN_TREE_CLONE),
		call("move_mount", unix.SYS_MOVE_MOUNT, atCwd, text("/dev/shm"), atCwd, text("/mnt"), 0),
		call("mount_setattr", unix.SYS_MOUNT_SETATTR, atCwd, text("/"), 0, text(""), 32),
		{name: "leave by chroot", try: leaveByChroot},
	}
}

const atCwd = ^uintptr(99) // AT_FDCWD

func mounting(name, source, kind, options string) attempt {
	return attempt{name: name, try: func() error { return unix.Mount(source, "/mnt", kind, 0, options) }}
}

func remounting(at string) attempt {
	return attempt{name: "remount " + at + " writable", try: func() error {
		return unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND, "")
	}}
}

func uncovering(at string) attempt {
	return attempt{name: "unmount " + at, try: func() error { return unix.Unmount(at, unix.MNT_DETACH) }}
}

// leaveByChroot keeps the root open, goes into a smaller one, and climbs up
// from the first (chroot(2)).
func leaveByChroot() error {
	root, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	if err := os.MkdirAll("/jail", 0o755); err != nil {
		return err
	}
	if err := unix.Chroot("/jail"); err != nil {
		return err
	}
	if err := unix.Fchdir(root); err != nil {
		return err
	}
	for range 40 {
		if err := unix.Chdir(".."); err != nil {
			return err
		}
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if open("/hostile", unix.O_RDONLY) == nil {
		return contained(ownRoot)
	}
	return nil
}
