package native

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/simianhq/simian/experiment"
)

// State is a lab as other processes see it: its state.json.
type State struct {
	Name     string               `json:"name"` // the Compose project's
	Run      experiment.RunID     `json:"run"`
	Files    []string             `json:"files"`
	Process  experiment.ProcessID `json:"process"` // that launched it, and keeps it up
	NetNS    int                  `json:"netns"`   // the file descriptor it holds the network namespace by
	Resolver netip.AddrPort       `json:"resolver"`
	Boxes    []Box                `json:"containers"`
}

// Box is one container of a State.
type Box struct {
	Name    string                    `json:"name"`
	Service string                    `json:"service"`
	Image   string                    `json:"image"`
	State   experiment.ContainerState `json:"state"`
	Since   time.Time                 `json:"since"`
	Process experiment.ProcessID      `json:"process,omitzero"` // of its service, while it runs
	Starts  int                       `json:"starts"`
	Exit    string                    `json:"exit,omitempty"`   // how its last process ended
	Health  string                    `json:"health,omitempty"` // why it is not healthy
	Policy  string                    `json:"restart"`
	Labels  map[string]string         `json:"labels,omitempty"`
	Address map[string]netip.Addr     `json:"addresses,omitempty"` // by network
	Ports   []string                  `json:"ports,omitempty"`     // such as 127.0.0.1:8080->8080/tcp
	Cgroup  string                    `json:"cgroup"`              // below the root of each hierarchy
}

// Changes are gathered for stateDelay before state.json is written, and for
// stateShare times as long as writing it took: that of a large lab takes some
// milliseconds, and it changes all the time while it comes up.
const (
	stateDelay = 5 * time.Millisecond
	stateShare = 20
)

// stale says that state.json is out of date.
func (l *Lab) stale() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// keepState writes state.json whenever it is out of date.
func (l *Lab) keepState() {
	for took := time.Duration(0); ; {
		select {
		case <-l.alive.Done():
			return
		case <-l.changed:
		}
		sleep(l.alive, max(stateDelay, stateShare*took))
		began := time.Now()
		_ = l.writeState() // others see it late; nothing that is taken back depends on it
		took = time.Since(began)
	}
}

// writeState replaces state.json, unless the lab rests: its folder may be gone.
func (l *Lab) writeState() error {
	l.gate.RLock()
	defer l.gate.RUnlock()
	if l.alive.Err() != nil {
		return nil
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	data, err := json.MarshalIndent(l.state(), "", "  ")
	if err != nil {
		return err
	}
	next := l.dir("state.json.next")
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, l.dir("state.json"))
}

// state returns the lab as it is now.
func (l *Lab) state() State {
	s := State{Name: l.project.Name, Run: l.run, Files: l.project.Files, Boxes: []Box{}}
	s.Process, _ = l.env.FS.Identify(os.Getpid())
	s.NetNS, s.Resolver = l.netns, l.resolver
	for _, c := range l.boxes {
		s.Boxes = append(s.Boxes, c.box())
	}
	return s
}

func (c *container) box() Box {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := Box{
		Name: c.name, Service: c.service.Name, Image: c.service.source(), State: c.state, Since: c.since,
		Starts: c.starts, Policy: c.service.Restart.String(), Labels: c.service.Labels, Cgroup: c.cgroupName(),
	}
	if c.process != nil {
		b.Process = c.process.Workload()
	}
	if c.state == experiment.ContainerExited {
		b.Exit = c.last.String()
	}
	if !c.healthy {
		b.Health = c.why
	}
	if c.port != nil {
		b.Address = c.port.Addresses()
	}
	b.Ports = c.lab.portsOf(c.service)
	return b
}

// ReadState reads the state.json in the folder of a lab.
func ReadState(dir string) (State, error) {
	var s State
	data, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		return s, fmt.Errorf("read the state of the lab: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("read the state of the lab in %s: %w: %w", dir, errDamaged, err)
	}
	return s, nil
}

// errDamaged says that a state.json is not whole: it is replaced at once, but
// not forced to disk.
var errDamaged = errors.New("it is damaged")
