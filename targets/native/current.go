package native

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/labnet"
	"github.com/simianhq/simian/internal/proc"
)

// Current is the lab of the experiment that this process runs: none, one of
// its own, or one that stands. Selectors and probes are made before it is
// known, and ask it when they are used.
type Current struct {
	mu   sync.Mutex
	lab  scene
	live proc.FS
}

// scene is a lab as selectors and probes see it.
type scene interface {
	state() (State, error)
	folder() string
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

// NewCurrent returns a Current of no lab. It reads the host through fs.
func NewCurrent(fs proc.FS) *Current { return &Current{live: fs} }

// Launch makes l the current lab.
func (c *Current) Launch(l *Lab) { c.set(ownLab{l}) }

// Strike makes a standing lab the current one: that in the folder dir.
func (c *Current) Strike(dir string) { c.set(&standingLab{dir: dir, fs: c.live}) }

func (c *Current) set(s scene) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lab = s
}

func (c *Current) get() scene {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lab
}

// Dial connects as net.Dialer.DialContext does: from inside the lab where
// there is one, from this host where there is none.
func (c *Current) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if s := c.get(); s != nil {
		return s.Dial(ctx, network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// ownLab is a lab of this process.
type ownLab struct{ lab *Lab }

func (o ownLab) state() (State, error) { return o.lab.state(), nil }

func (o ownLab) folder() string { return o.lab.dir() }

func (o ownLab) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return o.lab.Dial(ctx, network, address)
}

// standingLab is a lab of another process.
type standingLab struct {
	dir string
	fs  proc.FS
}

// ErrDown says that nobody keeps a lab up any more. It is an ErrGone: what is
// in it is gone for good.
var ErrDown = fmt.Errorf("it is not up any more: %w", experiment.ErrGone)

func (s *standingLab) state() (State, error) {
	state, err := ReadState(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return state, fmt.Errorf("the lab of run %s: %w", filepath.Base(s.dir), ErrDown)
	}
	if err != nil {
		return state, err
	}
	if !s.fs.Alive(state.Process) {
		return state, fmt.Errorf("lab %s: %w", state.Name, ErrDown)
	}
	return state, nil
}

func (s *standingLab) folder() string { return s.dir }

func (s *standingLab) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	state, err := s.state()
	if err != nil {
		return nil, err
	}
	ns := fmt.Sprintf("/proc/%d/fd/%d", state.Process.PID, state.NetNS)
	return labnet.DialVia(ns, state.Resolver)(ctx, network, address)
}

// Labs returns the labs that are up, by name; two of one name are both there.
func Labs(fs proc.FS, stateDir string) ([]State, error) {
	dirs, err := filepath.Glob(filepath.Join(stateDir, "labs", "*"))
	if err != nil {
		return nil, err
	}
	labs := []State{}
	for _, dir := range dirs {
		s := &standingLab{dir: dir, fs: fs}
		state, err := s.state()
		if errors.Is(err, ErrDown) || errors.Is(err, errDamaged) {
			continue // it comes up, or is being taken down, or the host has crashed
		}
		if err != nil {
			return nil, err
		}
		labs = append(labs, state)
	}
	return labs, nil
}

// LabDir returns the folder of the lab that run launched.
func LabDir(stateDir string, run experiment.RunID) string {
	return filepath.Join(stateDir, "labs", string(run))
}
