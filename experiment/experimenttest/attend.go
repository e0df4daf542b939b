package experimenttest

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/simianhq/simian/experiment"
)

// Attend is how something goes on while a fault is on, as the test that made
// it wants: measuring on a SetFault, following on a SetOp.
type Attend struct {
	Takes experiment.Duration `json:"takes,omitzero" jsonschema:"it ends by itself after so long (when it is told to)"`
	Fail  string              `json:"fail,omitempty" jsonschema:"it ends with this error"`
	Deaf  bool                `json:"deaf,omitzero" jsonschema:"it does not heed its context"`
}

// wait goes on until it is told to end, or as a says, and notes it in log.
func (a Attend) wait(ctx context.Context, log string, r Record) error {
	r.Did = Begun
	if err := record(log, r); err != nil {
		return err
	}
	var ended <-chan time.Time
	if a.Takes > 0 {
		ended = time.After(a.Takes.D())
	}
	done := ctx.Done()
	if a.Deaf {
		done = nil
	}
	select {
	case <-ended:
	case <-done:
	}
	r.Did = Ended
	err := record(log, r)
	if a.Fail != "" {
		err = errors.Join(err, errors.New(a.Fail))
	}
	return err
}

// Measure implements experiment.Measurer. The longest round trip is how long it
// measured.
func (f *SetFault) Measure(ctx context.Context, t experiment.Target, p experiment.Phase) (*experiment.Measurement, error) {
	how := f.Before
	if p == experiment.PhaseDuring {
		how = f.During
	}
	if how == nil {
		return nil, nil
	}
	start := time.Now()
	if err := how.wait(ctx, f.World.log(), Record{Op: "measure " + string(p), Path: t.Root}); err != nil {
		return nil, err
	}
	return &experiment.Measurement{What: "settings of " + t.Name, Sent: 1, Max: time.Since(start).Seconds()}, nil
}

// Beyond implements experiment.Beyond.
func (f *SetFault) Beyond() []*experiment.TargetSpec {
	if f.To == nil {
		return nil
	}
	return []*experiment.TargetSpec{f.To}
}

// Follow implements experiment.Follower.
func (o *SetOp) Follow(ctx context.Context) error {
	if o.Following == nil {
		return nil
	}
	return o.Following.wait(ctx, o.Log, Record{Op: "follow", Path: o.Path})
}

// felt tells whether the setting was felt: as the op says, but once the target
// has felt it, yes.
func (o *SetOp) felt() experiment.Felt {
	if _, err := os.Stat(feltPath(o.Log, filepath.Base(filepath.Dir(o.Path)))); o.Felt != "" && err == nil {
		return experiment.FeltYes
	}
	return o.Felt
}

// Feel has a target run into the settings that say whether they were felt.
func (w World) Feel(target string) error {
	path := feltPath(w.log(), target)
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644))
}

func feltPath(log, target string) string { return filepath.Join(filepath.Dir(log), "felt", target) }

// feltOf returns what a step's Verify is to say: of the setting web-1/2, or
// else of its target web-1, or else of all of them, "*".
func (f *SetFault) feltOf(path string) experiment.Felt {
	target := filepath.Base(filepath.Dir(path))
	return cmp.Or(f.Felt[target+"/"+filepath.Base(path)], f.Felt[target], f.Felt["*"])
}

// Numb has a target no longer run into the settings that say whether they were
// felt.
func (w World) Numb(target string) error { return os.Remove(feltPath(w.log(), target)) }
