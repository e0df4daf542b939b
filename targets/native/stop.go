package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/simianhq/simian/experiment"
)

// noGrace is the file in a lab's folder that says to kill at once.
const noGrace = "no-grace"

const noGracePoll = 50 * time.Millisecond // between looks for it

// NoGrace says that the lab in the folder dir is to be killed when it is taken
// down, without being asked to end first.
func NoGrace(dir string) error {
	return os.WriteFile(filepath.Join(dir, noGrace), nil, 0o600)
}

// Stop asks every container to end, and gives each the time that it may take:
// first those on which no other depends.
func (l *Lab) Stop(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if l.noGrace() {
		return
	}
	go l.awaitNoGrace(ctx, cancel)
	l.Rest()
	stopped := map[string]chan struct{}{}
	for i := range l.project.Services {
		stopped[l.project.Services[i].Name] = make(chan struct{})
	}
	var wg sync.WaitGroup
	for i := range l.project.Services {
		s := &l.project.Services[i]
		wg.Go(func() {
			defer close(stopped[s.Name])
			for _, user := range l.usersOf(s.Name) {
				<-stopped[user]
			}
			l.stopService(ctx, s)
		})
	}
	wg.Wait()
}

func (l *Lab) noGrace() bool {
	_, err := os.Stat(l.dir(noGrace))
	return err == nil
}

// awaitNoGrace calls hurry once somebody does not want to wait any longer.
func (l *Lab) awaitNoGrace(ctx context.Context, hurry func()) {
	for ctx.Err() == nil && !l.noGrace() {
		sleep(ctx, noGracePoll)
	}
	hurry()
}

// usersOf returns the services that depend on one. There is no cycle: Load
// refuses it.
func (l *Lab) usersOf(service string) []string {
	var users []string
	for _, s := range l.project.Services {
		for _, d := range s.DependsOn {
			if d.Service == service {
				users = append(users, s.Name)
			}
		}
	}
	return users
}

func (l *Lab) stopService(ctx context.Context, s *Service) {
	var wg sync.WaitGroup
	for _, c := range l.cells[s.Name] {
		wg.Go(func() { c.stop(ctx) })
	}
	wg.Wait()
}

// stop asks the container to end, and waits for as long as it may take. What
// is left of it then is killed with the lab.
func (c *container) stop(ctx context.Context) {
	c.mu.Lock()
	p, gone := c.process, c.gone
	c.mu.Unlock()
	if p == nil || p.Signal(c.stopSignal()) != nil {
		return
	}
	select {
	case <-gone:
	case <-time.After(c.service.StopGrace):
	case <-ctx.Done():
	}
}

// State returns the lab as it is now.
func (l *Lab) State() State { return l.state() }

// Box finds a container of a State by its name, or the one replica of a
// service.
func (s State) Box(name string) (Box, error) {
	var found []Box
	var names []string
	for _, b := range s.Boxes {
		if b.Name == name {
			return b, nil
		}
		if b.Service == name {
			found = append(found, b)
		}
		names = append(names, b.Name)
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		near := experiment.Nearest(name, names)
		if near != "" {
			near = fmt.Sprintf(" (did you mean %q?)", near)
		}
		return Box{}, fmt.Errorf("lab %s has no container %q%s\n        containers: %s", s.Name, name, near, list(names))
	}
	return Box{}, errors.New(name + " has several replicas: name one of " + list(names))
}
