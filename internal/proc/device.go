package proc

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Device is a device by its numbers.
type Device struct {
	Block        bool // else one of characters
	Major, Minor uint32
}

// String gives its numbers: "8:0".
func (d Device) String() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// DeviceAt returns the device that the node at a path of this host is.
func DeviceAt(path string) (Device, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return Device{}, fmt.Errorf("find device: %w", &fs.PathError{Op: "open", Path: path, Err: err})
	}
	return nodeOf(fd, path)
}

// DeviceIn is DeviceAt for a path of a target, whose symlinks lead nowhere
// else (openat2(2), RESOLVE_IN_ROOT).
func DeviceIn(root, path string) (Device, error) {
	fd, err := openIn(root, path)
	if err != nil {
		return Device{}, err
	}
	return nodeOf(fd, path)
}

func nodeOf(fd int, path string) (Device, error) {
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Device{}, fmt.Errorf("find device %s: %w", path, err)
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFBLK && kind != unix.S_IFCHR {
		return Device{}, fmt.Errorf("%s is no device", path)
	}
	return Device{kind == unix.S_IFBLK, unix.Major(st.Rdev), unix.Minor(st.Rdev)}, nil
}

// openIn opens a path of a target, to look at it only.
func openIn(root, path string) (int, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", root, err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return -1, fmt.Errorf("open %s of the target: %w", path, err)
	}
	return fd, nil
}

// DeviceUnder returns the block device that a path of t lies on: that of its
// file system, and of an overlay the one that is written to.
func (f FS) DeviceUnder(t experiment.Target, path string) (Device, error) {
	fd, err := openIn(t.Root, path)
	if err != nil {
		return Device{}, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Device{}, fmt.Errorf("find device under %s: %w", path, err)
	}
	if major := unix.Major(st.Dev); major != 0 {
		return Device{true, major, unix.Minor(st.Dev)}, nil
	}
	return f.deviceOfMount(t, fd, path)
}

// deviceOfMount finds the device of a file system that has none of its own, by
// what it was mounted from.
func (f FS) deviceOfMount(t experiment.Target, fd int, path string) (Device, error) {
	m, err := f.mountOf(t.PIDs[0].PID, fd)
	if err != nil {
		return Device{}, fmt.Errorf("find device under %s: %w", path, err)
	}
	if strings.HasPrefix(m.source, "/dev/") {
		if d, err := DeviceAt(m.source); err == nil && d.Block {
			return d, nil
		}
	}
	for option := range strings.SplitSeq(m.super, ",") {
		upper, ok := strings.CutPrefix(unescape(option), "upperdir=")
		var st unix.Stat_t
		if ok && m.kind == "overlay" && unix.Stat(upper, &st) == nil && unix.Major(st.Dev) != 0 {
			return Device{true, unix.Major(st.Dev), unix.Minor(st.Dev)}, nil
		}
	}
	return Device{}, fmt.Errorf("no block device is under %s: it is on %s", path, m.kind)
}

// mountOf returns the mount that an open file of this process is on, as a
// process sees it.
func (f FS) mountOf(pid, fd int) (mount, error) {
	info, err := os.ReadFile(filepath.Join(f.Proc, "self/fdinfo", strconv.Itoa(fd)))
	if err != nil {
		return mount{}, err
	}
	_, rest, _ := strings.Cut(string(info), "mnt_id:")
	fields := append(strings.Fields(rest), "")
	data, err := readFile(f.path(pid, "mountinfo"), false)
	if err != nil {
		return mount{}, f.failure("read mountinfo", pid, err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, fields[0]+" ") {
			return parseMount(strings.TrimSuffix(line, "\n"))
		}
	}
	return mount{}, fmt.Errorf("it is on no mount that pid %d sees", pid)
}

// Disk returns the whole disk that a block device is, or is a partition of. The
// error is os.ErrNotExist where there is no such device.
func (f FS) Disk(d Device) (Device, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(f.Sys, "dev/block", d.String()))
	if err != nil {
		return Device{}, fmt.Errorf("there is no block device %s: %w", d, fs.ErrNotExist)
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err != nil {
		return d, nil
	}
	data, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "dev"))
	if err != nil {
		return Device{}, fmt.Errorf("find the disk of partition %s: %w", d, err)
	}
	whole := Device{Block: true}
	_, err = fmt.Sscanf(string(data), "%d:%d", &whole.Major, &whole.Minor)
	return whole, err
}

// HasDriver tells whether a driver of this kernel has a device's major number
// (proc_devices(5)).
func (f FS) HasDriver(d Device) (bool, error) {
	data, err := os.ReadFile(filepath.Join(f.Proc, "devices"))
	if err != nil {
		return false, fmt.Errorf("read drivers: %w", err)
	}
	block := false
	for line := range strings.Lines(string(data)) {
		var major uint32
		if strings.HasPrefix(line, "Block") {
			block = true
		}
		if n, _ := fmt.Sscanf(line, "%d ", &major); n == 1 && major == d.Major && block == d.Block {
			return true, nil
		}
	}
	return false, nil
}
