package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// paths are names that lead, or would lead, out of the container.
func paths() []attempt {
	return []attempt{
		{name: "leave by /proc/1/root", try: func() error { return upTo("/proc/1/root/../../..") }},
		{name: "leave by /proc/1/cwd", try: func() error { return upTo("/proc/1/cwd/../../..") }},
		{name: "see the host's file by its path", try: func() error { return open(os.Getenv(envCanary), unix.O_RDONLY) }},
		{name: "open a file by its handle (shocker)", try: shocker},
		{name: "write to its own program", try: func() error { return open("/proc/self/exe", unix.O_WRONLY) }},
		{name: "put a link in place of /etc/hosts", try: func() error { return plant("/etc/hosts") }, harmless: "the host writes it anew, and follows no link"},
		{name: "put a link in place of /etc/resolv.conf", try: func() error { return plant("/etc/resolv.conf") }, harmless: "the host writes it anew, and follows no link"},
		{name: "put a link into its volume", try: plantInVolume, harmless: "the host follows no link there"},
		{name: "put a device into its volume", try: func() error { return unix.Mknod(filepath.Join(volume, "disk"), unix.S_IFBLK|0o666, disk()) }, harmless: "it cannot open it, and who can on the host is root"},
		{name: "put a set-user-ID program into its volume", try: suidInVolume, harmless: "only root reaches the volumes on the host"},
	}
}

// plant puts a link to the host's file where the host may write.
func plant(at string) error {
	if err := unix.Unlink(at); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return unix.Symlink(os.Getenv(envCanary), at)
}

func plantInVolume() error {
	err := os.MkdirAll(filepath.Join(volume, "links"), 0o777)
	for _, l := range [][2]string{
		{os.Getenv(envCanary), "links/file"},
		{filepath.Dir(os.Getenv(envCanary)), "links/folder"},
		{"../../../../../../../../../../etc/passwd", "links/passwd"},
		{"/proc/self/root", "links/root"},
	} {
		err = errors.Join(err, unix.Symlink(l[0], filepath.Join(volume, l[1])))
	}
	return err
}

func suidInVolume() error {
	path := filepath.Join(volume, "suid")
	return errors.Join(os.WriteFile(path, []byte("#!/bin/false\n"), 0o755), unix.Chmod(path, 0o4755))
}

// shocker opens the root of the file system that its volume lies on, whose
// handle is easily guessed: inode 2 (open_by_handle_at(2)).
func shocker() error {
	at, err := unix.Open(volume, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	const inode32, root = 1, 2 // FILEID_INO32_GEN
	handle := binary.NativeEndian.AppendUint64(nil, root)
	fd, err := unix.OpenByHandleAt(at, unix.NewFileHandle(inode32, handle), unix.O_RDONLY)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// devices are to be opened without a file for them being there.
func devices() []attempt {
	return []attempt{
		opens("/dev/mem", unix.O_RDONLY), opens("/dev/kmsg", unix.O_RDONLY), opens("/dev/fuse", unix.O_RDWR),
		opens("/dev/net/tun", unix.O_RDWR), opens("/dev/kvm", unix.O_RDWR), opens("/dev/loop-control", unix.O_RDWR),
		opens("/dev/userfaultfd", unix.O_RDONLY), opens("/dev/tty", unix.O_RDWR), opens("/dev/console", unix.O_RDWR),
		{name: "make the host's disk", try: func() error { return unix.Mknod("/host-disk", unix.S_IFBLK|0o600, disk()) }, harmless: "it cannot be opened"},
		{name: "open the host's disk", try: func() error { return open("/host-disk", unix.O_RDONLY) }},
		{name: "make /dev/mem", try: func() error { return unix.Mknod("/mem", unix.S_IFCHR|0o600, device(1, 1)) }, harmless: "it cannot be opened"},
		{name: "open the /dev/mem made", try: func() error { return open("/mem", unix.O_RDONLY) }},
		making("the kernel's log", 1, 11), making("a tunnel", 10, 200).because("without CAP_NET_ADMIN it makes no interface"), making("FUSE", 10, 229), making("KVM", 10, 232),
		making("loop-control", 10, 237), making("the console", 5, 1),
		{name: "put characters into the terminal (TIOCSTI)", try: func() error { return raw(unix.SYS_IOCTL, 0, unix.TIOCSTI, text("x")) }},
		{name: "paste into the console (TIOCLINUX)", try: func() error { return raw(unix.SYS_IOCTL, 0, unix.TIOCLINUX, text("\x03")) }},
	}
}

func making(what string, major, minor uint32) attempt {
	return attempt{name: "make and open " + what, try: func() error {
		path := fmt.Sprintf("/dev/%d-%d", major, minor)
		if err := unix.Mknod(path, unix.S_IFCHR|0o600, device(major, minor)); err != nil {
			return err
		}
		return open(path, unix.O_RDWR)
	}}
}

func device(major, minor uint32) int { return int(unix.Mkdev(major, minor)) }

// disk is the first disk of the host: /proc/partitions names it.
func disk() int {
	text, err := os.ReadFile("/proc/partitions")
	if err != nil {
		return 0
	}
	var major, minor, blocks uint32
	var header [4]string
	var name string
	_, _ = fmt.Sscan(string(text), &header[0], &header[1], &header[2], &header[3], &major, &minor, &blocks, &name)
	return device(major, minor)
}
