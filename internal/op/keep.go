package op

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// Keep leaves an order to the keeper of a container, or takes it back.
type Keep struct {
	Lab    string               `json:"lab"`    // its folder
	Keeper experiment.ProcessID `json:"keeper"` // the process that launched it
	Order  Order                `json:"order"`
	Given  bool                 `json:"given"` // whether it is to stand

	fs proc.FS
}

// NewKeep returns the op that leaves an order to the keeper of a container, or
// takes it back.
func NewKeep(fs proc.FS, r *experiment.RuntimeRef, o Order, given bool) *Keep {
	return &Keep{Lab: r.Lab, Keeper: r.Keeper, Order: o, Given: given, fs: fs}
}

// Backend implements experiment.Backed.
func (k *Keep) Backend() string { return "keeper" }

// Ends implements experiment.Ending.
func (k *Keep) Ends() bool { return true }

// Notes implements experiment.Noted.
func (k *Keep) Notes() []string {
	switch {
	case k.Order.Volumes:
		return []string{"what it has written outside its named volumes is lost: the container that is put back is new"}
	case k.Order.What == OrderRemove:
		return []string{"what it has written outside its volumes is lost: the container that is put back is new"}
	case k.Order.Note != "":
		return []string{k.Order.Note}
	}
	return nil
}

// Handles implements experiment.Handled. Both ways of holding a container down
// are one.
func (k *Keep) Handles() []string {
	what := k.Order.What
	if k.Order.Holds() {
		what = "running"
	}
	r := experiment.RuntimeRef{Runtime: "simian", Lab: k.Lab, ID: k.Order.Container}
	return []string{r.Handle() + "#" + what}
}

// Apply implements experiment.Op.
func (k *Keep) Apply(ctx context.Context) error {
	box, err := k.open()
	if err != nil {
		return err
	}
	defer box.Close()
	if k.Given {
		return k.give(ctx, box)
	}
	return k.takeBack(ctx, box)
}

// open opens the folder of the orders. It is there as long as somebody keeps
// the lab up.
func (k *Keep) open() (*os.Root, error) {
	if !k.isUp() {
		return nil, k.down()
	}
	box, err := os.OpenRoot(path.Join(k.Lab, OrdersDir))
	return box, k.unlessDown(err)
}

// unlessDown returns err, or that the lab is down, where that is why.
func (k *Keep) unlessDown(err error) error {
	if err != nil && !k.isUp() {
		return k.down()
	}
	return err
}

func (k *Keep) down() error {
	return fmt.Errorf("the lab of %s is not up any more: %w", k.Order.Container, experiment.ErrGone)
}

// give leaves the order, and waits until the keeper has done it; of one that is
// asked to end, a moment.
func (k *Keep) give(ctx context.Context, box *os.Root) error {
	name := k.Order.name()
	if _, err := box.Lstat(name + Ordered); err != nil {
		if !k.fs.Alive(k.Order.Process) {
			return fmt.Errorf("%s (%s): %w", k.Order.Container, k.Order.Process, experiment.ErrGone)
		}
		if err := leave(box, name, k.Order); err != nil {
			return k.unlessDown(err)
		}
	}
	moment := time.Now().Add(stopMoment)
	a, err := k.await(ctx, box, func(a *Answer) bool {
		return a != nil && (a.Refused != "" || a.Done || k.Order.What == OrderStop && time.Now().After(moment))
	})
	if err == nil && a.Refused != "" {
		err = errors.Join(k.takeBack(ctx, box), fmt.Errorf("%s: %s: %w", k.Order.Container, a.Refused, experiment.ErrGone))
	}
	return err
}

// stopMoment is how long a change waits for the end of a container that was
// asked to. It may take its grace, and is then looked for by Verify.
const stopMoment = time.Second

// leave writes the order to a file of another name first: the keeper finds it
// whole.
func leave(box *os.Root, name string, o Order) error {
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := box.WriteFile(name+".next", data, 0o600); err != nil {
		return fmt.Errorf("leave order: %w", err)
	}
	return box.Rename(name+".next", name+Ordered)
}

// takeBack has the keeper take the order back, and waits until it has.
func (k *Keep) takeBack(ctx context.Context, box *os.Root) error {
	name := k.Order.name()
	_ = box.Remove(name + ".next") // of one who was killed while writing it
	err := box.Rename(name+Ordered, name+Back)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return k.unlessDown(fmt.Errorf("take order back: %w", err))
	}
	_, err = k.await(ctx, box, func(*Answer) bool { return !k.stands(box) })
	if err == nil && !k.isUp() {
		err = k.down()
	}
	return err
}

// isUp tells whether somebody keeps the lab up.
func (k *Keep) isUp() bool {
	_, err := os.Lstat(path.Join(k.Lab, OrdersDir))
	return err == nil && k.fs.Alive(k.Keeper)
}

// stands tells whether the order was given, and is not taken back yet.
func (k *Keep) stands(box *os.Root) bool {
	for _, suffix := range []string{Ordered, Back} {
		if _, err := box.Lstat(k.Order.name() + suffix); err == nil {
			return true
		}
	}
	return false
}

// await waits until ok says so of the answer, nil where there is none.
func (k *Keep) await(ctx context.Context, box *os.Root, ok func(*Answer) bool) (*Answer, error) {
	for wait := firstLook; ; wait = min(2*wait, nextLook) {
		a, err := k.answer(box)
		if err != nil || ok(a) {
			return a, err
		}
		if !k.isUp() {
			return nil, k.down()
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, k.late(ctx, a)
		}
	}
}

// How long to wait before looking again for an answer.
const (
	firstLook = 200 * time.Microsecond
	nextLook  = 5 * time.Millisecond
)

// late says what was waited for.
func (k *Keep) late(ctx context.Context, a *Answer) error {
	switch {
	case a == nil:
		return fmt.Errorf("%s, which keeps %s up, does not answer: %w", k.Keeper, k.Order.Container, ctx.Err())
	case a.Why != "":
		return fmt.Errorf("%s is %s: %s: %w", k.Order.Container, a.State, a.Why, ctx.Err())
	}
	return fmt.Errorf("%s is %s still: %w", k.Order.Container, a.State, ctx.Err())
}

// answer reads the answer, nil where there is none.
func (k *Keep) answer(box *os.Root) (*Answer, error) {
	data, err := box.ReadFile(k.Order.name() + Answered)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	a := &Answer{}
	if err == nil {
		err = json.Unmarshal(data, a)
	}
	if err != nil {
		return nil, fmt.Errorf("read the keeper's answer: %w", err)
	}
	return a, nil
}

// String implements experiment.Op.
func (k *Keep) String() string {
	if k.Given {
		return k.Order.String()
	}
	return k.Order.undoWords()
}
