package op

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// keptMount is where in its folder a clone is mounted.
const keptMount = "mount"

// keepClone mounts a clone in a folder of its own, on a tmpfs that is private:
// it comes to no other mount namespace.
func (u *Unmount) keepClone(clone int) error {
	if err := u.makeKept(); err != nil {
		return fmt.Errorf("keep the mount at %s: %w", u.Kept, err)
	}
	place := filepath.Join(u.Kept, keptMount)
	err := u.makePlace(place)
	if err == nil {
		err = unix.MoveMount(clone, "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep the mount at %s: %w", place, err), u.unkeep())
	}
	return nil
}

// makeKept mounts the private tmpfs. What a run that died in the midst of it
// has left is taken away first.
func (u *Unmount) makeKept() error {
	if err := u.unkeep(); err != nil {
		return err
	}
	if err := makeRunDir(filepath.Dir(u.Kept)); err != nil {
		return err
	}
	if err := os.Mkdir(u.Kept, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	fd, err := newTmpfs(u.mark(), "65536", "0700", 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, u.Kept, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	return unix.Mount("", u.Kept, "", unix.MS_PRIVATE, "")
}

// makeRunDir makes the folder that is Simian's in /run, where the locks of all
// users are too, whatever the umask. One that is there keeps its mode.
func makeRunDir(path string) error {
	err := os.Mkdir(path, 0o755)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err == nil {
		err = os.Chmod(path, 0o755)
	}
	return err
}

// makePlace makes what the clone is mounted on: a folder, or a file.
func (u *Unmount) makePlace(place string) error {
	if !u.File {
		return os.Mkdir(place, 0o700)
	}
	return os.WriteFile(place, nil, 0o600)
}

// isKept tells whether the clone is there.
func (u *Unmount) isKept() bool {
	fd, err := u.openPlace()
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil
}

// openPlace opens the clone's root.
func (u *Unmount) openPlace() (int, error) {
	fd, err := unix.Open(filepath.Join(u.Kept, keptMount), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the mount that is kept: %w", err)
	}
	m, _, root, err := u.host.FS.MountOf(os.Getpid(), fd)
	if err == nil && (!root || m.Device != u.Device || m.Root != u.Root || m.Kind != u.Kind) {
		err = fmt.Errorf("%s is not the mount that was kept", u.Kept)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// openKept returns a clone of the clone, mounted nowhere.
func (u *Unmount) openKept() (int, error) {
	place, err := u.openPlace()
	if err != nil {
		return -1, err
	}
	defer unix.Close(place)
	clone, err := cloneMount(place)
	if err != nil {
		return -1, fmt.Errorf("clone the mount that is kept: %w", err)
	}
	return clone, nil
}

// unkeep unmounts the clone and its tmpfs, and removes the folder.
func (u *Unmount) unkeep() error {
	for _, dir := range []string{filepath.Join(u.Kept, keptMount), u.Kept} {
		err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
	if err := unix.Rmdir(u.Kept); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s: %w", u.Kept, err)
	}
	return nil
}
