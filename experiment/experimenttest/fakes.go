package experimenttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/simianhq/simian/experiment"
)

// Loader knows all of the world's catalogues.
func (w World) Loader() experiment.Loader {
	return experiment.Loader{Faults: w.Faults(), Targets: w.Targets(), Probes: w.Probes()}
}

// Codec reads and writes journals of runs in the world.
func (w World) Codec() experiment.Codec {
	return experiment.Codec{Ops: w.Ops(), Targets: w.Targets()}
}

// Ops is the catalogue of ops: set and reset.
func (w World) Ops() experiment.Catalog[experiment.Op] {
	return experiment.Catalog[experiment.Op]{
		"set":   func() experiment.Op { return &SetOp{} },
		"reset": func() experiment.Op { return &ResetOp{} },
	}
}

// Faults is the catalogue of faults: set.
func (w World) Faults() experiment.Catalog[experiment.Fault] {
	return experiment.Catalog[experiment.Fault]{"set": func() experiment.Fault { return &SetFault{World: w} }}
}

// Targets is the catalogue of selectors: world.
func (w World) Targets() experiment.Catalog[experiment.Selector] {
	return experiment.Catalog[experiment.Selector]{"world": func() experiment.Selector { return &Find{World: w} }}
}

// Probes is the catalogue of probes: script and setting.
func (w World) Probes() experiment.Catalog[experiment.Probe] {
	return experiment.Catalog[experiment.Probe]{
		"script":  func() experiment.Probe { return &Script{} },
		"setting": func() experiment.Probe { return &Setting{World: w} },
	}
}

// SetFault sets a target's settings to a value.
type SetFault struct {
	World World `json:"-"`

	Value  string              `json:"value,omitempty" jsonschema:"what the settings become (broken)"`
	Steps  int                 `json:"steps,omitzero" jsonschema:"how many settings, each one a step (1)"`
	Do     Trouble             `json:"do,omitzero" jsonschema:"what goes wrong when the last step is done"`
	Undo   Trouble             `json:"undo,omitzero" jsonschema:"what goes wrong when each step is taken back"`
	NoUndo bool                `json:"noUndo,omitzero" jsonschema:"its steps cannot be taken back"`
	Once   bool                `json:"once,omitzero" jsonschema:"it strikes and holds nothing"`
	Every  experiment.Duration `json:"every,omitzero" jsonschema:"it strikes again at this interval"`
	Ends   bool                `json:"ends,omitzero" jsonschema:"it says that it makes its targets end"`
	Refuse string              `json:"refuse,omitempty" jsonschema:"planning gives this error"`

	Before *Attend                    `json:"before,omitempty" jsonschema:"it measures before it is applied"`
	During *Attend                    `json:"during,omitempty" jsonschema:"it measures while it is in force"`
	Follow *Attend                    `json:"follow,omitempty" jsonschema:"its steps are followed"`
	Felt   map[string]experiment.Felt `json:"felt,omitempty" jsonschema:"by setting (web-1/1), target or *: whether it was felt"`
	To     *experiment.TargetSpec     `json:"to,omitempty" jsonschema:"targets besides those that it breaks"`
}

// Instant implements experiment.Instant.
func (f *SetFault) Instant() bool { return f.Once }

// Interval implements experiment.Repeater.
func (f *SetFault) Interval() time.Duration { return f.Every.D() }

// Validate implements experiment.Validator.
func (f *SetFault) Validate() error {
	if f.Steps < 0 || f.Steps > settings {
		return experiment.Fieldf("steps", "%d is not from 1 to %d", f.Steps, settings)
	}
	return nil
}

// Plan implements experiment.Fault.
func (f *SetFault) Plan(_ context.Context, _ experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	if f.Refuse != "" {
		return nil, errors.New(f.Refuse)
	}
	var steps []experiment.Step
	for i := range max(f.Steps, 1) {
		s, err := f.step(filepath.Join(t.Root, strconv.Itoa(i+1)))
		if err != nil {
			return nil, err
		}
		steps = append(steps, s)
	}
	steps[len(steps)-1].Do.(*SetOp).Trouble = f.Do
	return steps, nil
}

func (f *SetFault) step(path string) (experiment.Step, error) {
	inode, err := inodeOf(path)
	if errors.Is(err, os.ErrNotExist) {
		return experiment.Step{}, fmt.Errorf("plan %s: %w", path, experiment.ErrGone)
	}
	if err != nil {
		return experiment.Step{}, err
	}
	op := SetOp{Path: path, Inode: inode, Wrote: f.Value, Felt: f.feltOf(path), Following: f.Follow, Ending: f.Ends, Log: f.World.log()}
	if op.Wrote == "" {
		op.Wrote = "broken"
	}
	if op.Read, err = op.present(); err != nil {
		return experiment.Step{}, err
	}
	step := experiment.Step{Do: &op}
	if !f.NoUndo {
		undo := ResetOp{op}
		undo.Trouble, undo.Felt, undo.Following, undo.Ending = f.Undo, "", nil, false
		step.Undo = &undo
	}
	return step, nil
}

// Find selects targets of a world by the pattern of their name.
type Find struct {
	World World `json:"-"`

	Name string `json:"name,omitempty" jsonschema:"a pattern such as web-* (*)"`
	Fail string `json:"fail,omitempty" jsonschema:"selecting gives this error"`
}

// Select implements experiment.Selector.
func (f *Find) Select(ctx context.Context) ([]experiment.Target, error) {
	if f.Fail != "" {
		return nil, errors.New(f.Fail)
	}
	pattern := f.Name
	if pattern == "" {
		pattern = "*"
	}
	paths, err := filepath.Glob(f.World.folder(pattern))
	if err != nil {
		return nil, err
	}
	var targets []experiment.Target
	for _, p := range paths {
		t, err := f.World.Target(filepath.Base(p))
		if errors.Is(err, os.ErrNotExist) {
			continue // gone since
		}
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	if len(targets) == 0 {
		return nil, fmt.Errorf("select %s: %w", pattern, experiment.ErrNoMatch)
	}
	experiment.SortTargets(targets)
	return targets, ctx.Err()
}

// Script is a probe that gives one value after the other, then the last one
// again and again. It counts in its own process.
type Script struct {
	Values []float64           `json:"values,omitempty" jsonschema:"what is measured, in order"`
	Errors []int               `json:"errors,omitempty" jsonschema:"which measurements give an error, from 0"`
	Slow   experiment.Duration `json:"slow,omitzero" jsonschema:"how long each measurement takes"`
	In     string              `json:"unit,omitempty" jsonschema:"s, ratio, /s, B or nothing"`

	n atomic.Int64
}

// Unit implements experiment.Measured.
func (s *Script) Unit() string { return s.In }

// Measured returns how often it was asked.
func (s *Script) Measured() int { return int(s.n.Load()) }

// Measure implements experiment.Probe.
func (s *Script) Measure(ctx context.Context) (float64, error) {
	n := int(s.n.Add(1)) - 1
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(s.Slow.D()):
	}
	for _, i := range s.Errors {
		if i == n {
			return 0, fmt.Errorf("measurement %d: told to fail", n)
		}
	}
	if len(s.Values) == 0 {
		return 0, errors.New("there are no values")
	}
	return s.Values[min(n, len(s.Values)-1)], ctx.Err()
}

// Setting is a probe that looks at a setting: 1 while its value is Want, else
// 0, and an error where it is gone.
type Setting struct {
	World World `json:"-"`

	Setting string `json:"setting" jsonschema:"such as web/1"`
	Want    string `json:"want,omitempty" jsonschema:"the value that is 1 (ok)"`
}

// Unit implements experiment.Measured.
func (s *Setting) Unit() string { return "ratio" }

// Measure implements experiment.Probe.
func (s *Setting) Measure(ctx context.Context) (float64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	want := s.Want
	if want == "" {
		want = "ok"
	}
	switch s.World.Value(s.Setting) {
	case "":
		return 0, fmt.Errorf("measure %s: it is gone", s.Setting)
	case want:
		return 1, nil
	}
	return 0, nil
}

// Broken is an inspector that finds settings which are not "ok".
type Broken struct{ World World }

// Inspect implements experiment.Inspector.
func (b Broken) Inspect(_ context.Context, t experiment.Target) ([]experiment.Finding, error) {
	var found []experiment.Finding
	for i := range settings {
		setting := fmt.Sprintf("%s/%d", t.Name, i+1)
		value := b.World.Value(setting)
		if value == "ok" {
			continue
		}
		inode, err := inodeOf(b.World.path(setting))
		if err != nil {
			return nil, err
		}
		mend := &SetOp{Path: b.World.path(setting), Inode: inode, Read: value, Wrote: "ok", Log: b.World.log()}
		found = append(found, experiment.Finding{
			Rule: "broken-setting", Message: fmt.Sprintf("%s is %q", setting, value),
			Mend: []experiment.Step{{Do: mend, Undo: &ResetOp{*mend}}},
		})
	}
	return found, nil
}
