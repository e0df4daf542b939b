package experimenttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/simianhq/simian/experiment"
)

// Trouble is what goes wrong with an op, as the test that made it wants.
type Trouble struct {
	Fail    bool                `json:"fail,omitzero" jsonschema:"it gives an error each time, and changes nothing"`
	Errno   int                 `json:"errno,omitzero" jsonschema:"it gives the kernel's error of this number each time, and changes nothing"`
	FailFor int                 `json:"failFor,omitzero" jsonschema:"so often it gives an error, counted over all processes"`
	Slow    experiment.Duration `json:"slow,omitzero" jsonschema:"it waits this long before it changes anything"`
	Deaf    bool                `json:"deaf,omitzero" jsonschema:"it does not heed its context"`
	Pretend bool                `json:"pretend,omitzero" jsonschema:"it changes nothing and says that it did"`
}

// SetOp changes a setting from Read to Wrote, and only from Read.
type SetOp struct {
	Trouble
	Path  string `json:"path"`
	Inode uint64 `json:"inode"`
	Read  string `json:"read"`
	Wrote string `json:"wrote"`
	Log   string `json:"log,omitempty"` // where it notes what it did

	Felt      experiment.Felt `json:"felt,omitempty"`
	Following *Attend         `json:"following,omitzero"`
	Ending    bool            `json:"ending,omitzero"` // it says that it makes its target end
}

// Ends implements experiment.Ending.
func (o *SetOp) Ends() bool { return o.Ending }

// Apply implements experiment.Op.
func (o *SetOp) Apply(ctx context.Context) error {
	return o.run(ctx, "set", func(f *os.File, present string) (Did, error) {
		switch present {
		case o.Wrote:
			return Already, nil
		case o.Read:
			return Wrote, writeValue(f, o.Wrote)
		}
		return Superseded, fmt.Errorf("set %s: it is %q: %w", o.Path, present, experiment.ErrBusy)
	})
}

// String implements experiment.Op.
func (o *SetOp) String() string {
	return fmt.Sprintf("set %s from %q to %q", o.Path, o.Read, o.Wrote)
}

// Handles implements experiment.Handled.
func (o *SetOp) Handles() []string { return []string{fmt.Sprintf("setting:%d:%s", o.Inode, o.Path)} }

// Backend implements experiment.Backed.
func (o *SetOp) Backend() string { return "file" }

// Verify implements experiment.Verifier.
func (o *SetOp) Verify(context.Context) (experiment.Evidence, error) {
	e, err := o.holds(o.Wrote, "the setting was changed by somebody else")
	if err != nil || !e.InForce {
		return e, err
	}
	if e.Felt = o.felt(); e.Felt == experiment.FeltNothing {
		e.Hint = "nobody has read it"
	}
	return e, nil
}

// holds tells whether the setting is want now.
func (o *SetOp) holds(want, hint string) (experiment.Evidence, error) {
	present, err := o.present()
	if err != nil {
		return experiment.Evidence{}, err
	}
	e := experiment.Evidence{InForce: present == want, What: fmt.Sprintf("%s is %q", o.Path, present)}
	if !e.InForce {
		e.Hint = hint
	}
	return e, nil
}

func (o *SetOp) present() (string, error) {
	f, err := o.open(os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readValue(f)
}

// open opens the file, and ErrGone where it is not the one planned.
func (o *SetOp) open(flag int) (*os.File, error) {
	f, err := os.OpenFile(o.Path, flag, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", o.Path, experiment.ErrGone)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Ino != o.Inode {
		return nil, errors.Join(fmt.Errorf("open %s: it is another file: %w", o.Path, experiment.ErrGone), f.Close())
	}
	return f, nil
}

// run has its trouble, then calls change with the file, locked, and its value.
func (o *SetOp) run(ctx context.Context, name string, change func(*os.File, string) (Did, error)) error {
	r := Record{Op: name, Path: o.Path, Did: Begun}
	if err := record(o.Log, r); err != nil {
		return err
	}
	did, err := o.attempt(ctx, name, change)
	r.Did = did
	return errors.Join(err, record(o.Log, r))
}

func (o *SetOp) attempt(ctx context.Context, name string, change func(*os.File, string) (Did, error)) (Did, error) {
	if did, err := o.meet(ctx, name); did != "" {
		return did, err
	}
	f, err := o.open(os.O_RDWR)
	if err != nil {
		return Gone, err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return Failed, err
	}
	present, err := readValue(f)
	if err != nil {
		return Failed, err
	}
	return change(f, present)
}

// meet has the op's trouble. It says what came of it, or "" to go on.
func (o *SetOp) meet(ctx context.Context, name string) (Did, error) {
	if o.Deaf {
		time.Sleep(o.Slow.D())
	} else {
		select {
		case <-ctx.Done():
			return Failed, ctx.Err()
		case <-time.After(o.Slow.D()):
		}
	}
	switch {
	case o.Errno > 0:
		return Failed, fmt.Errorf("write %s: %w", o.Path, syscall.Errno(o.Errno))
	case o.Fail || o.FailFor > 0 && o.failures(name) < o.FailFor:
		return Failed, fmt.Errorf("%s %s: told to fail", name, o.Path)
	case o.Pretend:
		return Pretended, nil
	}
	return "", nil
}

func (o *SetOp) failures(name string) int {
	records, err := readLog(o.Log)
	if err != nil {
		return 0
	}
	n := 0
	for _, r := range records {
		if r.Op == name && r.Path == o.Path && r.Did == Failed {
			n++
		}
	}
	return n
}

// ResetOp is the undo of a SetOp: it puts Read back where it finds Wrote.
type ResetOp struct{ SetOp }

// Apply implements experiment.Op.
func (o *ResetOp) Apply(ctx context.Context) error {
	return o.run(ctx, "reset", func(f *os.File, present string) (Did, error) {
		switch present {
		case o.Read:
			return Already, nil
		case o.Wrote:
			return Wrote, writeValue(f, o.Read)
		}
		return Superseded, &experiment.SupersededError{Object: o.Path, Read: o.Read, Wrote: o.Wrote, Present: present}
	})
}

// String implements experiment.Op.
func (o *ResetOp) String() string {
	return fmt.Sprintf("set %s from %q back to %q", o.Path, o.Wrote, o.Read)
}

// Verify implements experiment.Verifier.
func (o *ResetOp) Verify(context.Context) (experiment.Evidence, error) {
	return o.holds(o.Read, "the setting is not what it was")
}

// Values are written as a record of one length, in one write: a process that
// is killed leaves the old one or the new one.
const valueSize = 64

func readValue(r io.ReaderAt) (string, error) {
	b := make([]byte, valueSize)
	n, err := r.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSpace(string(b[:n])), nil
}

func writeValue(w io.WriterAt, value string) error {
	if len(value) > valueSize {
		return fmt.Errorf("%q is too long for a setting", value)
	}
	_, err := w.WriteAt([]byte(value+strings.Repeat("\n", valueSize-len(value))), 0)
	return err
}
