package op

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/vdso"
)

// Clock shifts the time of day that the processes of a target read, by a change
// of their vDSO (internal/vdso), or takes that back, in all processes of this
// host that have it: a child that was forked meanwhile has it too.
type Clock struct {
	ID        uint64                 `json:"id"`   // of this shift, as it stands in each process
	Name      string                 `json:"name"` // of the target, for people
	Processes []experiment.ProcessID `json:"processes"`
	Cgroup    experiment.CgroupDir   `json:"cgroup,omitzero"` // the target's own: who is in it belongs to it
	Offset    time.Duration          `json:"offset,omitzero"` // whole microseconds
	To        time.Time              `json:"to,omitzero"`     // instead of an offset: what time it is as it is applied
	Image     vdso.Image             `json:"image"`
	Program   string                 `json:"program,omitempty"` // BPF, which catches system calls; at most 15 bytes, with the run's name
	Noted     []string               `json:"noted,omitempty"`
	Present   bool                   `json:"present"`

	host *Host
}

// NewClock returns c as a step.
func NewClock(host *Host, c Clock) experiment.Step {
	do, undo := c, c
	do.Present, do.host = true, host
	undo.Present, undo.host = false, host
	undo.Offset, undo.To, undo.Noted = 0, time.Time{}, nil
	return experiment.Step{Do: &do, Undo: &undo}
}

// String implements experiment.Op.
func (c *Clock) String() string {
	of := fmt.Sprintf("%s (%s)", c.Name, processes(c.Processes))
	switch {
	case !c.Present:
		return "put back the time of day of " + of
	case !c.To.IsZero():
		return fmt.Sprintf("set the time of day of %s to %s", of, c.To.Format(time.RFC3339Nano))
	}
	return fmt.Sprintf("shift the time of day of %s by %s", of, signed(c.Offset))
}

// processes gives "pid 812", or "pid 812 and 3 more".
func processes(ids []experiment.ProcessID) string {
	if len(ids) > 1 {
		return fmt.Sprintf("%s and %d more", ids[0], len(ids)-1)
	}
	return ids[0].String()
}

func signed(d time.Duration) string {
	if d > 0 {
		return "+" + d.String()
	}
	return d.String()
}

// Backend implements experiment.Backed.
func (c *Clock) Backend() string { return "vDSO" }

// Notes implements experiment.Noted.
func (c *Clock) Notes() []string { return c.Noted }

// Handles implements experiment.Handled: the clock of a process is an object of
// its own, which may be shifted while something else is done to the process.
func (c *Clock) Handles() []string {
	handles := make([]string, len(c.Processes))
	for i, id := range c.Processes {
		handles[i] = id.Handle() + "#clock"
	}
	return handles
}

// Apply implements experiment.Op.
func (c *Clock) Apply(ctx context.Context) error {
	if err := c.host.FS.OwnPIDNamespace(); err != nil {
		return err
	}
	if !c.Present {
		return errors.Join(c.letCalls(), c.restore(ctx))
	}
	if _, err := c.install(ctx, c.shift()); err != nil {
		return err
	}
	return c.catchCalls()
}

// rounds is how often processes are looked for again: one may have forked
// while another was changed.
const rounds = 8

// install shifts the clock of all processes of the target that are not yet,
// and returns how many it has.
func (c *Clock) install(ctx context.Context, s vdso.Shift) (int, error) {
	for range rounds {
		found, err := c.members()
		if err != nil {
			return 0, err
		}
		changed := false
		for _, p := range found {
			if p.state.In(c.ID, c.Image) {
				continue
			}
			changed = true
			err := c.change(ctx, p.id, func(still *vdso.Still) error { return still.Install(c.Image, s) })
			if err != nil && !errors.Is(err, experiment.ErrGone) {
				return 0, err
			}
		}
		if !changed {
			return len(found), nil
		}
	}
	return 0, fmt.Errorf("shift the clock of %s: it starts processes faster than they can be changed: %w", c.Name, experiment.ErrBusy)
}

// shift is what is to stand in each process. Where it stands in one already,
// the others get the same offset.
func (c *Clock) shift() vdso.Shift {
	s := vdso.Shift{ID: c.ID, Offset: c.Offset}
	if c.To.IsZero() {
		return s
	}
	if found, err := c.members(); err == nil {
		for _, p := range found {
			if p.state.Owner == c.ID {
				s.Offset = p.state.Offset
				return s
			}
		}
	}
	s.Offset = time.Until(c.To).Truncate(time.Microsecond)
	return s
}

// restore puts back the clock of all processes that have this shift.
func (c *Clock) restore(ctx context.Context) error {
	for range rounds {
		found, err := c.shifted()
		if err != nil || len(found) == 0 {
			return err
		}
		var failed []error
		for _, id := range found {
			err := c.change(ctx, id, func(still *vdso.Still) error { return still.Remove(c.Image, c.ID) })
			if err != nil && !errors.Is(err, experiment.ErrGone) {
				failed = append(failed, err)
			}
		}
		if len(failed) > 0 {
			return errors.Join(failed...)
		}
	}
	return fmt.Errorf("put back the clock of %s: it starts processes faster than they can be changed: %w", c.Name, experiment.ErrBusy)
}

// changeTime is how long a process may take to come to where it can be changed.
const changeTime = 2 * time.Second

// change holds a process and changes it, and tries again where a thread of it
// stands in the way.
func (c *Clock) change(ctx context.Context, id experiment.ProcessID, do func(*vdso.Still) error) error {
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		err := vdso.Hold(ctx, c.host.FS.Proc, id.PID, func(still *vdso.Still) error {
			if !c.host.FS.Alive(id) {
				return vdso.ErrGone
			}
			return do(still)
		})
		if !errors.Is(err, vdso.ErrInside) || ctx.Err() != nil {
			return clockError(c.Name, id, err)
		}
		time.Sleep(wait)
	}
}

// clockError words what is in the way for a caller that tells errors apart.
func clockError(name string, id experiment.ProcessID, err error) error {
	if err == nil {
		return nil
	}
	place := fmt.Sprintf("change the clock of %s (pid %d)", name, id.PID)
	for _, e := range []struct{ is, as error }{
		{vdso.ErrGone, experiment.ErrGone},
		{vdso.ErrTraced, experiment.ErrBusy},
		{vdso.ErrOther, experiment.ErrBusy},
		{vdso.ErrInside, experiment.ErrBusy},
		{vdso.ErrRestless, experiment.ErrBusy},
		{vdso.ErrNone, experiment.ErrUnsupported},
		{vdso.ErrProcessor, experiment.ErrUnsupported},
	} {
		if errors.Is(err, e.is) {
			return fmt.Errorf("%s: %w: %w", place, err, e.as)
		}
	}
	return fmt.Errorf("%s: %w", place, err)
}
