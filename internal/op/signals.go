package op

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// Named is a process, and what it is called, for people.
type Named struct {
	Process experiment.ProcessID `json:"process"`
	Name    string               `json:"name"`
}

// String gives "java (pid 812)".
func (n Named) String() string { return fmt.Sprintf("%s (pid %d)", n.Name, n.Process.PID) }

// Signals sends a signal to several processes of a target, each through its
// pidfd. Those that have exited meanwhile are passed over.
type Signals struct {
	Processes []Named `json:"processes"`
	Signal    string  `json:"signal"`
	Of        string  `json:"of"`                // the target, for people
	Restart   string  `json:"restart,omitempty"` // the policy that starts the target again; "" is none that surely does

	fs proc.FS
}

// NewSignals returns the op that sends signal to processes of a target.
func NewSignals(fs proc.FS, list []Named, signal, of string) *Signals {
	return &Signals{Processes: list, Signal: signal, Of: of, fs: fs}
}

// String implements experiment.Op.
func (s *Signals) String() string {
	return fmt.Sprintf("kill %s %s in %s", s.Signal, listed(s.Processes), s.Of)
}

// listed names the first of many processes.
func listed(list []Named) string {
	const most = 6
	words := make([]string, 0, most+1)
	for i, n := range list {
		if i == most && len(list) > most+1 {
			words = append(words, fmt.Sprintf("%d more", len(list)-most))
			break
		}
		words = append(words, n.String())
	}
	return strings.Join(words, ", ")
}

// Leans implements experiment.Leaning.
func (s *Signals) Leans() string {
	if s.Restart == "" {
		return ""
	}
	return "restart: " + s.Restart
}

// Ends implements experiment.Ending.
func (s *Signals) Ends() bool { return true }

// Handles implements experiment.Handled.
func (s *Signals) Handles() []string {
	list := make([]string, len(s.Processes))
	for i, n := range s.Processes {
		list[i] = n.Process.Handle()
	}
	return list
}

// one is the op for a single process.
func (s *Signals) one(n Named) *Signal { return NewSignal(s.fs, n.Process, n.Name, s.Signal) }

// Apply implements experiment.Op. It is gone where all of them have exited.
func (s *Signals) Apply(ctx context.Context) error {
	var errs []error
	left := 0
	for _, n := range s.Processes {
		err := s.one(n).Apply(ctx)
		if errors.Is(err, experiment.ErrGone) {
			left++
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("signal %s: %w", n, err))
		}
	}
	if left == len(s.Processes) {
		return fmt.Errorf("none of %s is left: %w", listed(s.Processes), experiment.ErrGone)
	}
	return errors.Join(errs...)
}

// Verify implements experiment.Verifier: the signal has had its effect on each
// of them, as for Signal.
func (s *Signals) Verify(ctx context.Context) (experiment.Evidence, error) {
	var died, handled, other []Named
	var worst experiment.Evidence
	for _, n := range s.Processes {
		ev, err := s.one(n).Verify(ctx)
		switch {
		case err != nil:
			return experiment.Evidence{}, err
		case ev == exitedEvidence:
			died = append(died, n)
		case ev.InForce:
			handled = append(handled, n)
		default:
			other, worst = append(other, n), ev
		}
	}
	if other != nil {
		worst.What = fmt.Sprintf("%s: %s", listed(other), worst.What)
		return worst, nil
	}
	return experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: fates(died, handled)}, nil
}

// fates tells who died, and who handled the signal and goes on.
func fates(died, handled []Named) string {
	var words []string
	if died != nil {
		words = append(words, fmt.Sprintf("%d gone: %s", len(died), listed(died)))
	}
	if handled != nil {
		words = append(words, fmt.Sprintf("%d got the signal, and go on: %s", len(handled), listed(handled)))
	}
	return strings.Join(words, "; ")
}
