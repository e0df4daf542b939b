package op

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// keptAt is where mounts are kept that were taken from their targets, each in a
// folder of its own, with the run's name.
const keptAt = "/run/simian/mount-"

// Unmount unmounts a mount of a target, lazily, or mounts it again. Before, a
// clone of it is mounted where this process's mount namespace keeps it, private
// to that, so that any later process can put back the same: file system, root,
// options and propagation (open_tree(2), move_mount(2)).
//
//	target's namespace                  Simian's namespace
//	/data ── clone ───────────────────▶ /run/simian/mount-RUN-HASH/mount
//	/data ── unmounted
//	/data ◀─────────────────── clone ── /run/simian/mount-RUN-HASH/mount
type Unmount struct {
	MountPoint
	Kept    string `json:"kept"` // the folder where the clone is
	Present bool   `json:"present"`

	host *Host
}

// NewUnmount returns the op that unmounts at. Its undo is Gone.
func NewUnmount(host *Host, at MountPoint) *Unmount {
	return &Unmount{at, keptAt + at.key(), true, host}
}

// Gone returns the op that mounts it again.
func (u *Unmount) Gone() *Unmount {
	gone := *u
	gone.Present = false
	return &gone
}

// String implements experiment.Op.
func (u *Unmount) String() string {
	if !u.Present {
		return fmt.Sprintf("mount %s of %s (%s) again, from %s", u.Point, u.Target, u.what(), u.Kept)
	}
	return fmt.Sprintf("unmount %s of %s (%s), kept at %s", u.Point, u.Target, u.what(), u.Kept)
}

// Backend implements experiment.Backed.
func (u *Unmount) Backend() string { return "unmount" }

// Handles implements experiment.Handled.
func (u *Unmount) Handles() []string { return []string{u.handle()} }

// Apply implements experiment.Op.
func (u *Unmount) Apply(context.Context) error {
	if !u.Present {
		return u.restore()
	}
	now, err := u.look(u.host.FS)
	if err != nil {
		return err
	}
	defer now.close()
	switch {
	case !u.alike(now) && u.isKept():
		return nil
	case !u.same(now):
		return fmt.Errorf("another mount is at %s now (%s %s): %w", u.Point, now.Kind, now.Source, experiment.ErrGone)
	}
	err = u.keep(now)
	if err == nil {
		err = u.inside(u.host.FS, func() error { return now.detach(u.File) })
	}
	if err != nil {
		return errors.Join(err, u.unkeep())
	}
	return nil
}

// keep mounts a clone of what is there where it can be found again.
func (u *Unmount) keep(now *there) error {
	clone := -1
	err := u.inside(u.host.FS, func() (err error) {
		clone, err = cloneMount(now.fd)
		return err
	})
	if err != nil {
		return fmt.Errorf("clone the mount at %s: %w", u.Point, err)
	}
	defer unix.Close(clone)
	return u.keepClone(clone)
}

// cloneMount clones the mount whose root an open file is (open_tree(2)).
func cloneMount(fd int) (int, error) {
	return unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
}

// restore mounts the clone where it was, unless the mount is there; then the
// clone is no longer kept. Where somebody has mounted another there, theirs
// stays.
func (u *Unmount) restore() error {
	if !u.isKept() {
		return u.unkeep() // at most its folder is there
	}
	if _, err := u.host.FS.Living(u.Namespace, u.Processes); errors.Is(err, experiment.ErrGone) {
		return errors.Join(err, u.unkeep()) // nobody is left who could miss it
	}
	now, err := u.look(u.host.FS)
	if err != nil {
		return fmt.Errorf("find where %s was: %s (it is kept at %s; make the folder again in the target)", u.what(), err, u.Kept)
	}
	defer now.close()
	if u.alike(now) {
		return u.unkeep()
	}
	if now.root && now.Point == u.Point {
		return errors.Join(&experiment.SupersededError{
			Object: "the mount at " + u.Point + " of " + u.Target, Read: u.what(), Wrote: "none", Present: now.Kind + " " + now.Source,
		}, u.unkeep())
	}
	if err := u.putBack(now); err != nil {
		return err
	}
	return u.unkeep()
}

func (u *Unmount) putBack(now *there) error {
	clone, err := u.openKept()
	if err != nil {
		return err
	}
	defer unix.Close(clone)
	return u.inside(u.host.FS, func() error {
		if err := attach(clone, now.fd); err != nil {
			return fmt.Errorf("mount %s again: %w", u.Point, err)
		}
		return nil
	})
}

// Verify implements experiment.Verifier.
func (u *Unmount) Verify(context.Context) (experiment.Evidence, error) {
	now, err := u.look(u.host.FS)
	if err != nil {
		return experiment.Evidence{}, err
	}
	defer now.close()
	is := fmt.Sprintf("%s is %s %s", u.Point, now.Kind, now.Source)
	switch {
	case !u.Present && u.isKept():
		return experiment.Evidence{What: is + ", and " + u.what() + " is kept at " + u.Kept}, nil
	case !u.Present:
		return experiment.Evidence{InForce: true, What: is}, nil
	case u.alike(now) || !u.isKept():
		return experiment.Evidence{What: is, Hint: "somebody has mounted it again"}, nil
	}
	return experiment.Evidence{
		InForce: true,
		What:    fmt.Sprintf("%s is no mount point, %s is unmounted; files that were open go on", u.Point, u.what()),
	}, nil
}
