package op

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// CgroupSet changes one setting of a cgroup, or puts it back. It writes only
// while the setting is what it was planned to be.
type CgroupSet struct {
	Knob
	Read  string   `json:"read"`  // the value before the run
	Wrote string   `json:"wrote"` // the value of this run, as the kernel reads it back
	Back  bool     `json:"back,omitzero"`
	Noted []string `json:"notes,omitempty"`

	fs     proc.FS
	before *counters // when it was applied; nil in a process that has not done so
}

// SetKnob returns the step that sets a knob to a value that the kernel reads
// back as it is given here, and puts the present one back. Whoever plans has
// made sure that the two differ.
func SetKnob(fs proc.FS, k Knob, read, wrote string, notes ...string) experiment.Step {
	return experiment.Step{
		Do:   &CgroupSet{Knob: k, Read: read, Wrote: wrote, Noted: notes, fs: fs},
		Undo: &CgroupSet{Knob: k, Read: read, Wrote: wrote, Back: true, fs: fs},
	}
}

// String implements experiment.Op.
func (c *CgroupSet) String() string {
	if c.Back {
		return fmt.Sprintf("set %s of %s back to %s", c.Knob, c.Cgroup.Path, shown(c.Read))
	}
	return fmt.Sprintf("set %s of %s from %s to %s", c.Knob, c.Cgroup.Path, shown(c.Read), shown(c.Wrote))
}

// shown is a value for people.
func shown(value string) string {
	if value == "" {
		return "nothing"
	}
	return value
}

// Handles implements experiment.Handled.
func (c *CgroupSet) Handles() []string { return []string{c.Handle()} }

// Notes implements experiment.Noted.
func (c *CgroupSet) Notes() []string { return c.Noted }

// Apply implements experiment.Op.
func (c *CgroupSet) Apply(context.Context) error {
	dir, err := openCgroup(c.Cgroup)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	now, err := c.value(dir)
	if err != nil {
		return err
	}
	if c.Back {
		return c.putBack(dir, now)
	}
	return c.lower(dir, now)
}

// putBack leaves a value alone that this run did not write.
func (c *CgroupSet) putBack(dir int, now string) error {
	switch now {
	case c.Read:
		return nil
	case c.Wrote:
		return c.set(dir, now, c.Read)
	}
	return &experiment.SupersededError{
		Object: c.File + " of " + c.Cgroup.Path, Read: shown(c.Read), Wrote: shown(c.Wrote), Present: shown(now),
	}
}

// lower writes the value, once it has made sure that nobody who must not feel
// it has moved in. A value that the kernel made something else of is put back
// at once: the undo would not know it again.
func (c *CgroupSet) lower(dir int, now string) error {
	switch now {
	case c.Wrote:
		return nil
	case c.Read:
	default:
		return fmt.Errorf("%s of %s was %s when this was planned, and is %s now: %w", c.Knob, c.Cgroup.Path, shown(c.Read), shown(now), experiment.ErrBusy)
	}
	if err := c.checkMembers(); err != nil {
		return err
	}
	if err := c.makeRoom(dir); err != nil {
		return err
	}
	c.before = c.count(dir)
	if err := c.set(dir, now, c.Wrote); err != nil {
		return c.refused(err)
	}
	got, err := c.value(dir)
	if err != nil || got != c.Wrote {
		back := c.set(dir, got, c.Read)
		return errors.Join(fmt.Errorf("the kernel made %s of %s, so it was put back: %w", shown(got), c.Wrote, experiment.ErrUnsupported), err, back)
	}
	return nil
}

// checkMembers refuses a cgroup with a process that must not be touched.
func (c *CgroupSet) checkMembers() error {
	p, err := c.fs.Protected()
	if err != nil {
		return err
	}
	return p.CheckCgroup(c.Cgroup.Path)
}

// refused says more than the kernel's word.
func (c *CgroupSet) refused(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY) && c.File == "memory.limit_in_bytes":
		return fmt.Errorf("%w: more than that is in use, and cannot be given back", err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: it needs root, or a cgroup delegated to this user", err)
	}
	return err
}

// reclaims is how often the kernel is asked to give memory back.
const reclaims = 8

// makeRoom has the kernel give memory back before memory.max is lowered: with
// what it cannot give back it would kill processes at once. Version 1 refuses
// such a limit by itself; before Linux 5.19 the plan's own look must do.
func (c *CgroupSet) makeRoom(dir int) error {
	limit, err := strconv.ParseInt(c.Wrote, 10, 64)
	if c.File != "memory.max" || err != nil {
		return nil
	}
	for range reclaims {
		above, err := usedAbove(dir, limit)
		if err != nil || above <= 0 {
			return err
		}
		if err := writeAt(dir, "memory.reclaim", strconv.FormatInt(above, 10)); errors.Is(err, unix.ENOENT) {
			return nil
		}
	}
	above, err := usedAbove(dir, limit)
	if err != nil || above <= 0 {
		return err
	}
	return fmt.Errorf("set memory.max of %s to %d: %d bytes above it are in use, and the kernel cannot give them back: %w",
		c.Cgroup.Path, limit, above, experiment.ErrBusy)
}

// usedAbove returns how many bytes above a limit are in use.
func usedAbove(dir int, limit int64) (int64, error) {
	used, err := Knob{File: "memory.current"}.value(dir)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(used, 10, 64)
	return n - limit, err
}

// Verify implements experiment.Verifier: the value is read back, and what ran
// into it since it was written is counted. On an undo anything but the value
// of this run is taken back.
func (c *CgroupSet) Verify(context.Context) (experiment.Evidence, error) {
	dir, err := openCgroup(c.Cgroup)
	if err != nil {
		return experiment.Evidence{}, err
	}
	defer unix.Close(dir)
	now, err := c.value(dir)
	if err != nil {
		return experiment.Evidence{}, err
	}
	what := fmt.Sprintf("%s is %s", c.Knob, shown(now))
	switch {
	case c.Back:
		return experiment.Evidence{InForce: now != c.Wrote, What: what}, nil
	case now != c.Wrote:
		return experiment.Evidence{What: what, Hint: "somebody has changed it since"}, nil
	}
	felt, seen, hint := c.felt(dir)
	if seen != "" {
		what += ": " + seen
	}
	return experiment.Evidence{InForce: true, Felt: felt, What: what, Hint: hint}, nil
}
