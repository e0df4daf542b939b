package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// Ops returns the catalogue of the ops that only a runtime can do. Journals are
// decoded with it.
func Ops(clients *Clients) experiment.Catalog[experiment.Op] {
	return experiment.Catalog[experiment.Op]{
		"container-stop":   func() experiment.Op { return &Stop{clients: clients} },
		"container-start":  func() experiment.Op { return &Start{clients: clients} },
		"container-remove": func() experiment.Op { return &Remove{clients: clients} },
	}
}

// Undo is how long an undo through a daemon may take.
const undoTime = 10 * time.Second

// isPlanned compares a container with the one planned: by ID, and by when it
// was started last.
func isPlanned(now Container, planned experiment.RuntimeRef, name string) error {
	if now.Ref.Started != planned.Started {
		return fmt.Errorf("%s was started again since (%s, %s): %w", name, now.Ref.Started, now.State, experiment.ErrGone)
	}
	return nil
}

// Start has a runtime start a container that this run has ended, unless it runs
// already.
type Start struct {
	Container experiment.RuntimeRef `json:"container"` // started when this run found it
	Process   experiment.ProcessID  `json:"process"`   // its first one then
	Name      string                `json:"name"`

	clients *Clients
}

// NewStart returns the op that starts t's container again.
func NewStart(clients *Clients, t experiment.Target) *Start {
	return &Start{Container: *t.Runtime, Process: t.PIDs[0], Name: t.Name, clients: clients}
}

// String implements experiment.Op.
func (s *Start) String() string { return "start " + s.Name }

// Handles implements experiment.Handled.
func (s *Start) Handles() []string { return []string{s.Container.Handle() + "#running"} }

// Durable implements experiment.Durable: a container outlives the kernel.
func (s *Start) Durable() bool { return true }

// Patience implements experiment.Patient.
func (s *Start) Patience() time.Duration { return undoTime }

// Apply implements experiment.Op. One that somebody else has started, and that
// has ended again, is none of ours.
func (s *Start) Apply(ctx context.Context) error {
	d, now, err := s.look(ctx)
	for ; err == nil && s.unnoticed(now); d, now, err = s.look(ctx) {
		if !sleep(ctx, lookAgain) {
			return fmt.Errorf("start %s: %s has not noticed yet that it ended: %w", s.Name, s.Container.Runtime, ctx.Err())
		}
	}
	if err != nil || now.Running {
		return err
	}
	if err := isPlanned(now, s.Container, s.Name); err != nil {
		return err
	}
	if err := d.Start(ctx, s.Container); err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	return nil
}

// unnoticed tells whether the container's process has ended, and its runtime
// does not know that yet.
func (s *Start) unnoticed(now Container) bool {
	return now.Running && now.Ref.Started == s.Container.Started && !proc.Host().Alive(s.Process)
}

func (s *Start) look(ctx context.Context) (daemon, Container, error) {
	d, err := s.clients.of(s.Container)
	if err != nil {
		return nil, Container{}, err
	}
	now, err := d.Inspect(ctx, s.Container)
	return d, now, err
}

// Verify implements experiment.Verifier.
func (s *Start) Verify(ctx context.Context) (experiment.Evidence, error) {
	_, now, err := s.look(ctx)
	if err != nil {
		return experiment.Evidence{}, err
	}
	again := now.Ref.Started != s.Container.Started // it was started, whatever has ended it since
	return experiment.Evidence{InForce: again || now.Running && !s.unnoticed(now), What: fmt.Sprintf("%s is %s", s.Name, now.State)}, nil
}

// Stop has a runtime end a container as it does: its stop signal, its grace,
// then SIGKILL. The runtime takes that for what its owner wants, and does not
// start it again, whatever its restart policy.
type Stop struct {
	Container    experiment.RuntimeRef `json:"container"`
	Process      experiment.ProcessID  `json:"process"` // its first one
	Name         string                `json:"name"`
	Signal       string                `json:"signal,omitempty"`
	Grace        *experiment.Duration  `json:"grace,omitempty"`
	RestartAfter experiment.Duration   `json:"restartAfter,omitzero"` // after its end

	clients *Clients
	asked   bool // the runtime, by this very op
}

// NewStop returns the op that stops t's container.
func NewStop(clients *Clients, t experiment.Target, signal string, grace *experiment.Duration, restartAfter experiment.Duration) *Stop {
	return &Stop{Container: *t.Runtime, Process: t.PIDs[0], Name: t.Name, Signal: signal, Grace: grace, RestartAfter: restartAfter, clients: clients}
}

// Check says what the container's runtime can't do of a stop. It asks, and
// changes nothing.
func (s *Stop) Check(ctx context.Context) error {
	d, err := s.clients.of(s.Container)
	if err != nil {
		return err
	}
	switch d := d.(type) {
	case *Docker:
		if s.Signal != "" {
			return d.checkSignal(ctx)
		}
	case *Containerd:
		return d.checkStop(ctx, s.Container, s.how(), s.Name)
	}
	return nil
}

// String implements experiment.Op.
func (s *Stop) String() string {
	words := fmt.Sprintf("stop %s through %s", s.Name, s.Container.Runtime)
	if s.Signal != "" {
		words += ", " + s.Signal
	}
	if s.Grace != nil {
		words += fmt.Sprintf(", kill it after %s", s.Grace)
	}
	if s.RestartAfter > 0 {
		words += fmt.Sprintf(", start it again after %s", s.RestartAfter)
	}
	return words
}

// Backend implements experiment.Backed.
func (s *Stop) Backend() string { return s.Container.Runtime }

// Ends implements experiment.Ending.
func (s *Stop) Ends() bool { return true }

// Handles implements experiment.Handled.
func (s *Stop) Handles() []string { return []string{s.Container.Handle() + "#running"} }

// moment is how long a change waits for the end of a container that was asked
// to. It may take its grace, and is then looked for by Verify.
const moment = time.Second

// Apply implements experiment.Op. The runtime goes on with a stop by itself
// once it was asked.
func (s *Stop) Apply(ctx context.Context) error {
	d, err := s.clients.of(s.Container)
	if err != nil {
		return err
	}
	now, err := d.Inspect(ctx, s.Container)
	if err == nil {
		err = isPlanned(now, s.Container, s.Name)
	}
	if err != nil || !now.Running {
		return err
	}
	s.asked = true
	done := make(chan error, 1)
	go func() { done <- d.Stop(context.WithoutCancel(ctx), s.Container, s.how()) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("stop %s: %w", s.Name, err)
		}
		return nil
	case <-time.After(moment):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Stop) how() Stopping {
	how := Stopping{Signal: s.Signal}
	if s.Grace != nil {
		d := s.Grace.D()
		how.Grace = &d
	}
	return how
}

// Verify implements experiment.Verifier.
func (s *Stop) Verify(ctx context.Context) (experiment.Evidence, error) {
	for {
		ev, settled, err := s.read(ctx)
		if settled || err != nil {
			return ev, err
		}
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return ev, nil
		}
	}
}

// lookAgain is how long to wait before a daemon is asked again.
const lookAgain = 20 * time.Millisecond

func (s *Stop) read(ctx context.Context) (ev experiment.Evidence, settled bool, err error) {
	d, err := s.clients.of(s.Container)
	if err != nil {
		return ev, true, err
	}
	asked, cancel := context.WithTimeout(context.WithoutCancel(ctx), askFor)
	defer cancel()
	now, err := d.Inspect(asked, s.Container)
	again := now.Ref.Started != s.Container.Started
	switch {
	case err != nil:
		return ev, true, err
	case again && s.RestartAfter > 0:
		return experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: fmt.Sprintf("ended; started again after %s", s.RestartAfter)}, true, nil
	case again:
		return experiment.Evidence{What: "somebody has started it again: it is " + now.State}, true, nil
	case now.Running && !s.asked:
		return experiment.Evidence{What: "it runs"}, true, nil
	case now.Running:
		return experiment.Evidence{
			InForce: true, Felt: experiment.FeltNo, What: "asked to end, and has not yet: it is killed after its grace",
			Hint: "a longer for, or a shorter grace",
		}, false, nil
	}
	return experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: "ended: it is " + now.State + ", and held down"}, true, nil
}

// Follow implements experiment.Follower: it starts the container again, where
// that is asked for.
func (s *Stop) Follow(ctx context.Context) error {
	if s.RestartAfter == 0 {
		return nil
	}
	for {
		ev, _, err := s.read(ctx)
		if err != nil {
			return err
		}
		if ev.Felt != experiment.FeltNo {
			break
		}
		if !sleep(ctx, lookAgain) {
			return nil
		}
	}
	if !sleep(ctx, s.RestartAfter.D()) {
		return nil
	}
	err := (&Start{Container: s.Container, Process: s.Process, Name: s.Name, clients: s.clients}).Apply(ctx)
	if err != nil && ctx.Err() == nil && !errors.Is(err, experiment.ErrGone) {
		return fmt.Errorf("start it again: %w", err)
	}
	return nil
}

// sleep waits, and tells whether ctx still holds.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// Remove has a runtime take a container away, with all that it has written.
// Nothing brings it back.
type Remove struct {
	Container experiment.RuntimeRef `json:"container"`
	Name      string                `json:"name"`
	Volumes   bool                  `json:"volumes,omitempty"` // its anonymous volumes too

	clients *Clients
}

// NewRemove returns the op that removes t's container.
func NewRemove(clients *Clients, t experiment.Target, volumes bool) *Remove {
	return &Remove{Container: *t.Runtime, Name: t.Name, Volumes: volumes, clients: clients}
}

// String implements experiment.Op.
func (r *Remove) String() string {
	words := fmt.Sprintf("remove %s from %s, with what it has written", r.Name, r.Container.Runtime)
	if r.Volumes {
		words += " and its anonymous volumes"
	}
	return words
}

// Ends implements experiment.Ending.
func (r *Remove) Ends() bool { return true }

// Handles implements experiment.Handled.
func (r *Remove) Handles() []string { return []string{r.Container.Handle() + "#running"} }

// Notes implements experiment.Noted.
func (r *Remove) Notes() []string {
	return []string{"nothing makes it anew but what made it: its owner, or the manager that it is of"}
}

// Apply implements experiment.Op.
func (r *Remove) Apply(ctx context.Context) error {
	d, err := r.docker()
	if err != nil {
		return err
	}
	now, err := d.Inspect(ctx, r.Container)
	if err == nil {
		err = isPlanned(now, r.Container, r.Name)
	}
	if err == nil {
		err = d.Remove(ctx, r.Container, r.Volumes)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", r.Name, err)
	}
	return nil
}

func (r *Remove) docker() (*Docker, error) {
	d, err := r.clients.of(r.Container)
	if err != nil {
		return nil, err
	}
	docker, ok := d.(*Docker)
	if !ok {
		keeper := ""
		if r.Container.NoStart != "" {
			keeper = "; " + r.Container.NoStart
		}
		return nil, fmt.Errorf("remove %s: %s only keeps what a client has set up, and that can't be removed as a whole%s: %w", r.Name, r.Container.Runtime, keeper, experiment.ErrUnsupported)
	}
	return docker, nil
}

// Check says where the container's runtime can't remove it.
func (r *Remove) Check() error {
	_, err := r.docker()
	return err
}

// Verify implements experiment.Verifier.
func (r *Remove) Verify(ctx context.Context) (experiment.Evidence, error) {
	d, err := r.docker()
	if err != nil {
		return experiment.Evidence{}, err
	}
	now, err := d.Inspect(ctx, r.Container)
	switch {
	case errors.Is(err, experiment.ErrGone):
		return experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: "removed"}, nil
	case err != nil:
		return experiment.Evidence{}, err
	}
	return experiment.Evidence{What: "it is there still: " + now.State}, nil
}
