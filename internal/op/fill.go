package op

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Fill takes space, or inodes, of the file system that a path of a process is
// on, or gives them back. What is taken belongs to files without a name that
// this process holds open: when it ends, however it does, the kernel gives
// them back. Where a file system has no such files, one with a name is made.
type Fill struct {
	Amount
	Run     experiment.RunID     `json:"run"`
	Process experiment.ProcessID `json:"process"`
	Path    string               `json:"path"` // as Process sees it
	Disk    Disk                 `json:"disk"`
	Target  string               `json:"target"` // its name, for people
	Present bool                 `json:"present"`
	Noted   []string             `json:"notes,omitempty"`

	host     *Host
	nameless func(dir int) (int, error) // makes a file without a name; nil is openat(2)'s way
}

// Amount is how much to take: one of the first four, and never so much that
// less than Floor is left.
type Amount struct {
	Bytes         int64   `json:"bytes,omitzero"`
	Percent       float64 `json:"percent,omitzero"` // of the file system in use then, as df(1) counts
	Inodes        int64   `json:"inodes,omitzero"`
	InodesPercent float64 `json:"inodesPercent,omitzero"` // in use then
	Floor         int64   `json:"floor,omitzero"`         // bytes that stay free
	FloorInodes   int64   `json:"floorInodes,omitzero"`   // inodes that stay free
}

// Disk is the file system that is filled, by identity.
type Disk struct {
	Device string `json:"device"`          // "8:1"
	Kind   string `json:"kind"`            // ext4, tmpfs, overlay …
	Folder string `json:"folder"`          // the path's folder, from the file system's root
	Upper  string `json:"upper,omitempty"` // an overlay's upper folder, as this mount namespace sees it
	Shared bool   `json:"shared"`          // it is the host's too
}

// NewFill returns the op that takes what f says. Its undo is Gone.
func NewFill(host *Host, f Fill) *Fill {
	f.Present, f.host = true, host
	return &f
}

// Gone returns the op that gives back what f takes.
func (f *Fill) Gone() *Fill {
	gone := *f
	gone.Present, gone.Amount, gone.Noted = false, Amount{}, nil
	return &gone
}

// Name is what the file would be called, where it needs a name.
func (f *Fill) Name() string {
	h := fnv.New32a()
	fmt.Fprint(h, f.Process.Handle(), f.Path) // never fails
	return fmt.Sprintf(".simian-%s-%08x", f.Run, h.Sum32())
}

// String implements experiment.Op.
func (f *Fill) String() string {
	if !f.Present {
		return fmt.Sprintf("give back what was taken of %s of %s (%s, %s)", f.Path, f.Target, f.Process, f.Name())
	}
	return fmt.Sprintf("fill %s of %s (%s, %s %s): %s", f.Path, f.Target, f.Process, f.Disk.Kind, f.Disk.Device, f.Amount)
}

// String says how much it is.
func (a Amount) String() string {
	var what string
	switch {
	case a.Bytes > 0:
		what = size(a.Bytes)
	case a.Percent > 0:
		what = "to " + inPercent(a.Percent)
	case a.Inodes > 0:
		what = strconv.FormatInt(a.Inodes, 10) + " inodes"
	default:
		what = "to " + inPercent(a.InodesPercent) + " of the inodes"
	}
	if a.ofInodes() && a.FloorInodes > 0 {
		return fmt.Sprintf("%s, %d stay free", what, a.FloorInodes)
	}
	if !a.ofInodes() && a.Floor > 0 {
		return what + ", " + size(a.Floor) + " stay free"
	}
	return what
}

func (a Amount) ofInodes() bool { return a.Inodes > 0 || a.InodesPercent > 0 }

func inPercent(p float64) string { return strconv.FormatFloat(p, 'f', -1, 64) + " %" }

// size gives "9.8 GiB".
func size(n int64) string {
	v, unit := float64(n), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if v < 1024 {
			break
		}
		v, unit = v/1024, next
	}
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0") + " " + unit
}

// Handles implements experiment.Handled. Two that take a number of bytes can
// stand beside each other; two that fill to a level can't.
func (f *Fill) Handles() []string {
	return []string{fmt.Sprintf("space:%s:%s:%s", f.Disk.Device, f.Process.Handle(), f.Path)}
}

// Apply implements experiment.Op.
func (f *Fill) Apply(ctx context.Context) error {
	if !f.Present {
		return f.giveBack()
	}
	if f.held() != nil {
		return nil
	}
	dir, err := f.open()
	if err != nil {
		return err
	}
	defer dir.Close()
	held, err := f.take(ctx, dir)
	if err != nil {
		return errors.Join(err, f.removeNamed(dir))
	}
	f.host.hold(f.Name(), held)
	return nil
}

func (f *Fill) held() *heldSpace {
	held, _ := f.host.holds(f.Name()).(*heldSpace)
	return held
}

// open opens the folder, once it is sure that it is on the file system that
// was planned.
func (f *Fill) open() (*os.File, error) {
	fd, err := f.host.FS.OpenInside(f.Process, f.Path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(fd), f.Path)
	m, _, _, err := f.host.FS.MountOf(f.Process.PID, fd)
	if err == nil && (m.Device != f.Disk.Device || m.Kind != f.Disk.Kind) {
		err = fmt.Errorf("%s is on %s %s now, not on %s %s: %w", f.Path, m.Kind, m.Device, f.Disk.Kind, f.Disk.Device, experiment.ErrGone)
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// giveBack closes what this process holds, and removes a file with a name,
// whoever has made it.
func (f *Fill) giveBack() error {
	if held := f.host.drop(f.Name()); held != nil {
		_ = held.Close()
	}
	dir, err := f.find()
	if err != nil {
		return err
	}
	defer dir.Close()
	return f.removeNamed(dir)
}

// removeNamed removes the file that has a name, where there is one.
func (f *Fill) removeNamed(dir *os.File) error {
	err := unix.Unlinkat(int(dir.Fd()), f.Name(), 0)
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EROFS) {
		return nil
	}
	return fmt.Errorf("remove %s in %s: %w", f.Name(), f.Path, err)
}

// Durable implements experiment.Durable: a file with a name outlives a reboot.
func (f *Fill) Durable() bool { return !f.Present }

// find opens the folder by the target, or, where that is gone, by any mount
// of this process that shows the same folder.
func (f *Fill) find() (*os.File, error) {
	dir, gone := f.open()
	if gone == nil {
		return dir, nil
	}
	mounts, err := f.host.FS.Mounts(os.Getpid())
	if err != nil {
		return nil, errors.Join(gone, err)
	}
	for _, m := range mounts {
		rest, ok := strings.CutPrefix(f.Disk.Folder+"/", strings.TrimSuffix(m.Root, "/")+"/")
		if m.Device != f.Disk.Device || m.Kind != f.Disk.Kind || !ok {
			continue
		}
		if dir, err := openBelow(m.Point, rest); err == nil {
			return dir, nil
		}
	}
	return nil, gone
}

// openBelow opens a folder below another, through no link and no mount.
func openBelow(point, rest string) (*os.File, error) {
	root, err := unix.Open(point, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, "./"+rest, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), point), nil
}
