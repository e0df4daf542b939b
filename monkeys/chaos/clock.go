package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/vdso"
)

// Clock has a target read another time of day than it is.
type Clock struct {
	Offset Offset  `json:"offset,omitzero" jsonschema:"what is added to the clock, such as -24h or +5m"`
	To     Instant `json:"to,omitzero" jsonschema:"instead of an offset: what time it is as the fault begins, such as 2038-01-19T03:14:00Z"`
	Clock  string  `json:"clock,omitempty" jsonschema:"realtime: the time of day (default); monotonic, boottime: what runs since the machine started"`
	Calls  string  `json:"calls,omitempty" jsonschema:"system calls that ask for the time of day, by programs that pass their C library by: catch, or refuse where that can't be; leave; left out, they are caught where the kernel lets us"`

	host *op.Host
}

// clocks makes clocks that share a host.
func clocks(host *op.Host) func() experiment.Fault {
	return func() experiment.Fault { return &Clock{host: host} }
}

// The clocks that there are (clock_gettime(2)).
const (
	clockRealtime  = "realtime"
	clockMonotonic = "monotonic"
	clockBoottime  = "boottime"
)

// What is to be done about system calls that ask for the time of day.
const (
	callsCatch = "catch"
	callsLeave = "leave"
)

// Validate implements experiment.Validator.
func (c *Clock) Validate() error {
	clock := cmp.Or(c.Clock, clockRealtime)
	switch {
	case !slices.Contains([]string{clockRealtime, clockMonotonic, clockBoottime}, clock):
		return experiment.Fieldf("clock", "unknown clock %q\n        clocks: realtime monotonic boottime", c.Clock)
	case c.Offset != 0 && !c.To.IsZero():
		return experiment.Fieldf("to", "it is an offset, or an instant, and not both")
	case c.Offset == 0 && c.To.IsZero():
		return experiment.Fieldf("offset", "want an offset such as -24h or +5m, or to: an instant")
	case !c.To.IsZero() && clock != clockRealtime:
		return experiment.Fieldf("to", "the clock %s tells no date: give an offset", clock)
	case !slices.Contains([]string{"", callsCatch, callsLeave}, c.Calls):
		return experiment.Fieldf("calls", "%q is neither catch nor leave", c.Calls)
	case c.Calls != "" && clock != clockRealtime:
		return experiment.Fieldf("calls", "of the clock %s all calls tell the same: it is the kernel's own", clock)
	}
	return nil
}

// Plan implements experiment.Fault.
func (c *Clock) Plan(_ context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	if len(t.PIDs) == 0 {
		return nil, fmt.Errorf("it has no process here: %w", experiment.ErrUnsupported)
	}
	if clock := cmp.Or(c.Clock, clockRealtime); clock != clockRealtime {
		return c.planNamespace(clock, run, t)
	}
	if now := time.Now().Add(c.Offset.D()); now.Unix() < 0 {
		return nil, fmt.Errorf("an offset of %s leads to %s, and the time of day begins in 1970: %w", c.Offset, now.UTC().Format(time.DateOnly), experiment.ErrUnsupported)
	}
	shift := op.Clock{ID: op.ClockID(run, t), Name: t.Name, Offset: c.Offset.D(), To: time.Time(c.To)}
	shift.Cgroup, _, _ = c.host.FS.OwnCgroup(t)
	var err error
	if shift.Processes, shift.Image, err = c.processes(t); err != nil {
		return nil, err
	}
	if err := c.calls(run, &shift); err != nil {
		return nil, err
	}
	return []experiment.Step{op.NewClock(c.host, shift)}, nil
}

// calls plans what is done about system calls.
func (c *Clock) calls(run experiment.RunID, shift *op.Clock) error {
	if c.Calls == callsLeave {
		return nil
	}
	err := op.CanCatchClockCalls(c.host)
	switch {
	case err == nil:
		shift.Program = op.ClockProgram(run, shift.ID)
	case c.Calls == callsCatch:
		return fmt.Errorf("calls that ask the kernel for the time can't be caught here: %w", err)
	default:
		shift.Noted = []string{"system calls tell the truth, the C library and Go do not: " + err.Error()}
	}
	return nil
}

// processes returns the processes whose clock can be shifted, which are all
// that live, and their vDSO.
func (c *Clock) processes(t experiment.Target) (ids []experiment.ProcessID, image vdso.Image, err error) {
	for _, id := range t.PIDs {
		its, err := op.PlanClock(c.host.FS, id, t.Name)
		if errors.Is(err, experiment.ErrGone) {
			continue // it has ended since it was found; the others are there still
		}
		if err != nil {
			return nil, image, err
		}
		if len(ids) > 0 && !reflect.DeepEqual(its, image) {
			return nil, image, fmt.Errorf("pid %d has another vDSO than pid %d: %w", id.PID, ids[0].PID, experiment.ErrUnsupported)
		}
		ids, image = append(ids, id), its
	}
	if len(ids) == 0 {
		return nil, image, fmt.Errorf("none of its processes is left: %w", experiment.ErrGone)
	}
	return ids, image, nil
}

// planNamespace plans a shift of what runs since the machine started: a time
// namespace (time_namespaces(7)) is entered as a program starts, so a container
// is started again in one.
func (c *Clock) planNamespace(clock string, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	if !launched(t) {
		return nil, fmt.Errorf("%w (clock: realtime shifts the time of day)", notLaunched(t, "started again in a time namespace"))
	}
	var now unix.Timespec
	if err := unix.ClockGettime(map[string]int32{clockMonotonic: unix.CLOCK_MONOTONIC, clockBoottime: unix.CLOCK_BOOTTIME}[clock], &now); err != nil {
		return nil, fmt.Errorf("read the clock %s: %w", clock, err)
	}
	if time.Duration(now.Nano())+c.Offset.D() < 0 {
		return nil, fmt.Errorf("an offset of %s leads before the clock %s began, %s ago: %w", c.Offset, clock, time.Duration(now.Nano()).Round(time.Second), experiment.ErrUnsupported)
	}
	order := op.Order{What: op.OrderClocks}
	if clock == clockMonotonic {
		order.MonotonicNs = c.Offset.D().Nanoseconds()
	} else {
		order.BoottimeNs = c.Offset.D().Nanoseconds()
	}
	return ordered(c.host.FS, run, t, order), nil
}

// Offset is a length of time with a sign: -24h, +5m, 1h30m.
type Offset time.Duration

// D returns it as a time.Duration.
func (o Offset) D() time.Duration { return time.Duration(o) }

// TypeName implements experiment.Typed.
func (Offset) TypeName() string { return "duration with a sign" }

// String gives a form that UnmarshalText reads.
func (o Offset) String() string { return time.Duration(o).String() }

// MarshalText implements encoding.TextMarshaler.
func (o Offset) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *Offset) UnmarshalText(b []byte) error {
	text, back := strings.CutPrefix(string(b), "-")
	if back && strings.HasPrefix(text, "+") {
		return fmt.Errorf("%q has two signs", b)
	}
	var d experiment.Duration
	if err := d.UnmarshalText([]byte(text)); err != nil {
		return err
	}
	switch {
	case d == 0:
		return errors.New("an offset of 0 changes nothing")
	case d.D()%time.Microsecond != 0:
		return fmt.Errorf("%s is finer than a microsecond, and gettimeofday(2) is not", b)
	}
	if *o = Offset(d); back {
		*o = -*o
	}
	return nil
}

// Instant is a date and a time of day.
type Instant time.Time

// IsZero tells whether it was left out.
func (i Instant) IsZero() bool { return time.Time(i).IsZero() }

// TypeName implements experiment.Typed.
func (Instant) TypeName() string { return "date and time" }

// UnmarshalText implements encoding.TextUnmarshaler.
func (i *Instant) UnmarshalText(b []byte) error {
	t, err := time.Parse(time.RFC3339, string(b))
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a date and a time (write it as 2038-01-19T03:14:00Z)", b)
	case t.Unix() < 0:
		return fmt.Errorf("%s is before 1970, where the time of day begins", b)
	case t.Year() > 2200:
		return fmt.Errorf("%s is after 2200", b)
	}
	*i = Instant(t.UTC())
	return nil
}
