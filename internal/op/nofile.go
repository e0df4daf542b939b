package op

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// FileLimit is the soft limit of one process's open files: one more than the
// highest descriptor that it may be given (RLIMIT_NOFILE, getrlimit(2)).
type FileLimit struct {
	Named
	Session int    `json:"session"` // by which children are found that have lost their parent
	Was     uint64 `json:"was"`
	Lowered uint64 `json:"lowered"`
}

// Files lowers the soft limits of a target's processes to what they have open,
// or puts them back. What they fork meanwhile has the lowered limit too, and
// is put back with them.
type Files struct {
	Limits []FileLimit            `json:"limits"`
	Since  uint64                 `json:"since"`            // clock ticks since boot: what was born before has not inherited
	Spared []experiment.ProcessID `json:"spared,omitempty"` // of the target's, which have no more open files than that
	Target experiment.Target      `json:"target"`           // where heirs are looked for
	Back   bool                   `json:"back,omitzero"`

	fs proc.FS
}

// PlanFiles returns the step that leaves each process of a target so many
// descriptors and no more. One that has no more already is left out.
func PlanFiles(fs proc.FS, t experiment.Target, list []proc.Stat, leave int) (experiment.Step, error) {
	do := &Files{Target: experiment.Target{PIDs: t.PIDs, PID: t.PID, Cgroup: t.Cgroup, Runtime: t.Runtime}, fs: fs}
	for _, s := range list {
		do.Since = max(do.Since, s.Start)
		limit, err := planFiles(fs, s, leave)
		if errors.Is(err, experiment.ErrGone) {
			continue
		}
		if err != nil {
			return experiment.Step{}, err
		}
		if limit.Lowered < limit.Was {
			do.Limits = append(do.Limits, limit)
		} else {
			do.Spared = append(do.Spared, s.ID())
		}
	}
	if do.Limits == nil {
		return experiment.Step{}, fmt.Errorf("none of its processes may open more than %d files already: %w", leave, experiment.ErrBusy)
	}
	undo := *do
	undo.Back = true
	return experiment.Step{Do: do, Undo: &undo}, nil
}

func planFiles(fs proc.FS, s proc.Stat, leave int) (FileLimit, error) {
	name := Named{s.ID(), s.Comm}
	open, err := fs.OpenFiles(s.PID)
	if err != nil {
		return FileLimit{}, err
	}
	now, err := softFiles(fs, s.ID(), nil)
	if errors.Is(err, unix.EPERM) {
		return FileLimit{}, fmt.Errorf("change limits of %s: its user is another, and this process has no CAP_SYS_RESOURCE there: %w", name, experiment.ErrUnsupported)
	}
	return FileLimit{name, s.Session, now.Cur, uint64(proc.FreeDescriptor(open, leave))}, err
}

// softFiles reads a process's limit, and sets the soft one where that is said.
// The hard one is never changed, so putting back needs no privilege.
func softFiles(fs proc.FS, p experiment.ProcessID, soft *uint64) (now unix.Rlimit, err error) {
	fd, err := proc.OpenPidfd(p) // as long as it is open and the process has not exited, the pid is no other's
	if err != nil {
		return now, err
	}
	defer unix.Close(fd)
	if err := unix.Prlimit(p.PID, unix.RLIMIT_NOFILE, nil, &now); err != nil || soft == nil {
		return now, gone(err)
	}
	set := unix.Rlimit{Cur: min(*soft, now.Max), Max: now.Max}
	return now, gone(unix.Prlimit(p.PID, unix.RLIMIT_NOFILE, &set, nil))
}

// String implements experiment.Op.
func (f *Files) String() string {
	const most = 4
	var words []string
	for i, l := range f.Limits {
		if i == most && len(f.Limits) > most+1 {
			words = append(words, fmt.Sprintf("%d more", len(f.Limits)-most))
			break
		}
		from, to := l.Was, l.Lowered
		if f.Back {
			from, to = to, from
		}
		words = append(words, fmt.Sprintf("%s from %d to %d", l.Named, from, to))
	}
	if f.Back {
		return "put back open files of " + strings.Join(words, ", ")
	}
	return "limit open files of " + strings.Join(words, ", ")
}

// Backend implements experiment.Backed.
func (f *Files) Backend() string { return "RLIMIT_NOFILE" }

// Handles implements experiment.Handled.
func (f *Files) Handles() []string {
	list := make([]string, len(f.Limits))
	for i, l := range f.Limits {
		list[i] = "nofile:" + l.Process.Handle()
	}
	return list
}

// Apply implements experiment.Op. It is gone where all of them have exited.
func (f *Files) Apply(context.Context) error {
	if err := f.fs.OwnPIDNamespace(); err != nil {
		return err
	}
	var errs []error
	left := 0
	for _, l := range f.Limits {
		err := f.set(l)
		if errors.Is(err, experiment.ErrGone) {
			left++
			continue
		}
		errs = append(errs, err)
	}
	if f.Back {
		errs = append(errs, f.children())
	}
	if left == len(f.Limits) && errors.Join(errs...) == nil {
		return fmt.Errorf("none of its processes is left: %w", experiment.ErrGone)
	}
	return errors.Join(errs...)
}

// set lowers a limit that is as it was planned, or puts it back where it is as
// this run wrote it.
func (f *Files) set(l FileLimit) error {
	from, to := l.Was, l.Lowered
	if f.Back {
		from, to = to, from
	}
	now, err := softFiles(f.fs, l.Process, nil)
	switch {
	case err != nil:
		return err
	case now.Cur == to:
		return nil
	case now.Cur == from:
		_, err := softFiles(f.fs, l.Process, &to)
		return err
	}
	return &experiment.SupersededError{
		Object: "limit of open files of " + l.String(),
		Read:   fmt.Sprint(l.Was), Wrote: fmt.Sprint(l.Lowered), Present: fmt.Sprint(now.Cur),
	}
}

// children puts back what was forked with a lowered limit, again and again
// until nobody is found: a child may fork just then.
func (f *Files) children() error {
	for range 20 {
		found, err := f.heirs()
		if err != nil || len(found) == 0 {
			return err
		}
		for p, was := range found {
			if _, err := softFiles(f.fs, p, &was); err != nil && !errors.Is(err, experiment.ErrGone) {
				return fmt.Errorf("put back the limit of open files of %s, which it has inherited: %w", p, err)
			}
		}
	}
	return errors.New("put back limits of open files: it forks faster than they can be put back")
}

// heirs returns processes that were forked while the limit was lowered, and
// have it still, with the limit that they would have had.
func (f *Files) heirs() (map[experiment.ProcessID]uint64, error) {
	candidates, err := f.fs.Within(f.Target)
	if err != nil {
		return nil, err
	}
	var roots []proc.Stat
	for _, l := range f.Limits {
		roots = append(roots, proc.Stat{PID: l.Process.PID, Session: l.Session})
	}
	more, err := f.fs.Descendants(roots)
	if err != nil {
		return nil, err
	}
	heirs := map[experiment.ProcessID]uint64{}
	for _, s := range append(candidates, more...) {
		known := slices.ContainsFunc(f.Limits, func(l FileLimit) bool { return l.Process == s.ID() })
		if known || s.Start < f.Since || slices.Contains(f.Spared, s.ID()) {
			continue
		}
		now, err := softFiles(f.fs, s.ID(), nil)
		if err != nil {
			continue // it has ended, or is not ours to touch: then it did not inherit
		}
		if at := slices.IndexFunc(f.Limits, func(l FileLimit) bool { return l.Lowered == now.Cur }); at >= 0 {
			heirs[s.ID()] = f.Limits[at].Was
		}
	}
	return heirs, nil
}

// Verify implements experiment.Verifier: the limits are as they were written,
// and the evidence tells how many descriptors are left.
func (f *Files) Verify(context.Context) (experiment.Evidence, error) {
	var words []string
	gone, free := 0, 0
	for _, l := range f.Limits {
		now, err := softFiles(f.fs, l.Process, nil)
		if errors.Is(err, experiment.ErrGone) {
			gone++
			continue
		}
		if err != nil {
			return experiment.Evidence{}, err
		}
		open, err := f.fs.OpenFiles(l.Process.PID)
		if err != nil {
			gone++
			continue
		}
		below, _ := slices.BinarySearch(open, int(min(now.Cur, 1<<30)))
		words = append(words, fmt.Sprintf("open files %d of %d: %s", below, now.Cur, l))
		free += int(min(now.Cur, 1<<30)) - below
		if !f.Back && now.Cur != l.Lowered || f.Back && now.Cur == l.Lowered {
			return experiment.Evidence{What: words[len(words)-1], Hint: "it has set its limit itself, or somebody else has"}, nil
		}
	}
	if gone == len(f.Limits) {
		return experiment.Evidence{}, fmt.Errorf("none of its processes is left: %w", experiment.ErrGone)
	}
	return f.evidence(words, free)
}

func (f *Files) evidence(words []string, free int) (experiment.Evidence, error) {
	const most = 4
	if more := len(words) - most; more > 1 {
		words = append(words[:most:most], fmt.Sprintf("%d more", more))
	}
	e := experiment.Evidence{InForce: true, What: strings.Join(words, ", ")}
	if f.Back {
		heirs, err := f.heirs()
		if e.InForce = len(heirs) == 0; !e.InForce {
			e.Hint = fmt.Sprintf("%d processes that were forked meanwhile have the lowered limit", len(heirs))
		}
		return e, err
	}
	if free > 0 {
		e.Felt, e.Hint = experiment.FeltNo, fmt.Sprintf("%d descriptors are free", free)
	}
	return e, nil
}
