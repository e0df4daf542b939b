package runtime

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/simianhq/simian/experiment"
)

// cache is what a daemon said last. It is kept only while the daemon's events
// are listened to, which begins when the daemon is asked a second time: who
// looks once pays for one look.
//
//	list, inspect ──▶ containers ◀── an event drops what it is about
//	                      │
//	              asked again: no question while nothing was dropped
type cache struct {
	mu        sync.Mutex
	asked     bool
	listening bool
	listed    []Container          // nil where it has to be asked for again
	inspected map[string]Container // by ID
	drops     int                  // how often something was dropped
}

// Containers returns the containers that run and that want tells of, by their
// labels and names, and how many run in all. Those wanted come with their pids
// and restart policies. One that ends meanwhile is left out.
func (d *Docker) Containers(ctx context.Context, want func(labels map[string]string, names ...string) bool) (found []Container, running []string, err error) {
	d.listen()
	list, drops, err := d.running(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range list {
		running = append(running, c.Name)
		if want(c.Labels, c.Names()...) {
			found = append(found, c)
		}
	}
	found, err = each(ctx, found, func(ctx context.Context, c Container) (Container, error) {
		if known, ok := d.cache.known(c.Ref.ID); ok {
			return known, nil
		}
		now, err := d.Inspect(ctx, c.Ref)
		if err == nil {
			d.cache.note(now, drops)
		}
		return now, err
	})
	return found, running, err
}

// Still returns the names of the containers that want tells of and that do not
// run, or are paused, each with its state.
func (d *Docker) Still(ctx context.Context, want func(labels map[string]string, names ...string) bool) ([]string, error) {
	list, err := d.list(ctx, true)
	var names []string
	for _, c := range list {
		if (!c.Running || c.Paused()) && want(c.Labels, c.Names()...) {
			names = append(names, fmt.Sprintf("%s (%s)", c.Name, c.State))
		}
	}
	return names, err
}

// All returns all containers, by what one question tells: without pids.
func (d *Docker) All(ctx context.Context) ([]Container, error) { return d.list(ctx, true) }

// Running returns how many containers run.
func (d *Docker) Running(ctx context.Context) (int, error) {
	d.listen()
	list, _, err := d.running(ctx)
	return len(list), err
}

// Stale has a container asked for again: what was said of it is no longer so.
func (d *Docker) Stale(id string) { d.cache.drop(id) }

// running lists the containers that run, by the cache where that holds.
func (d *Docker) running(ctx context.Context) ([]Container, int, error) {
	list, drops := d.cache.list()
	if list != nil {
		return list, drops, nil
	}
	list, err := d.list(ctx, false)
	if err != nil {
		return nil, 0, err
	}
	runs := make([]Container, 0, len(list))
	for _, c := range list {
		if c.Running {
			runs = append(runs, c)
		}
	}
	d.cache.noteList(runs, drops)
	return runs, drops, nil
}

func (c *cache) list() ([]Container, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.listed, c.drops
}

// noteList keeps a list, unless something has happened since it was asked for.
func (c *cache) noteList(list []Container, drops int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listening && c.drops == drops {
		c.listed = list
	}
}

func (c *cache) known(id string) (Container, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.inspected[id]
	return found, ok
}

func (c *cache) note(one Container, drops int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listening && c.drops == drops {
		c.inspected[one.Ref.ID] = one
	}
}

// drop forgets the list, and what was said of one container.
func (c *cache) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listed = nil
	c.drops++
	delete(c.inspected, id)
}

// begin tells whether it is time to listen to events: where the daemon was
// asked before.
func (c *cache) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	begins := c.asked && !c.listening
	if c.asked = true; begins {
		c.listening, c.inspected = true, map[string]Container{}
	}
	return begins
}

// end forgets everything: nobody tells of changes any more.
func (c *cache) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listening, c.asked, c.listed, c.inspected = false, false, nil, nil
	c.drops++
}

// listen has events drop what they are about, from the second question on. It
// returns once the daemon is asked for its events; those since a moment before
// are told of too, so that none is lost.
func (d *Docker) listen() {
	if !d.cache.begin() {
		return
	}
	c, err := d.connect()
	if err != nil {
		d.cache.end()
		return
	}
	const before = 5 * time.Second
	r := c.Events(context.Background(), client.EventsListOptions{
		Since:   fmt.Sprint(time.Now().Add(-before).Unix()),
		Filters: client.Filters{}.Add("type", string(events.ContainerEventType)),
	})
	go func() {
		defer d.cache.end()
		for {
			select {
			case m := <-r.Messages:
				if changes(m.Action) {
					d.cache.drop(m.Actor.ID)
				}
			case <-r.Err:
				return
			}
		}
	}()
}

// changes tells whether an event may change what is known of a container.
// Health checks are told of thrice each.
func changes(a events.Action) bool {
	switch a {
	case events.ActionAttach, events.ActionDetach, events.ActionResize, events.ActionTop, events.ActionCopy,
		events.ActionArchivePath, events.ActionExtractToDir, events.ActionExport, events.ActionCommit, events.ActionCreate:
		return false
	}
	return !strings.HasPrefix(string(a), "exec")
}

// aside is how many questions a daemon is asked at a time.
const aside = 16

// each replaces each container by what ask gives for it. Those that are gone
// are left out; any other error ends it.
func each(ctx context.Context, list []Container, ask func(context.Context, Container) (Container, error)) ([]Container, error) {
	now, errs := make([]Container, len(list)), make([]error, len(list))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(aside, len(list)) {
		wg.Go(func() {
			for i := range next {
				now[i], errs[i] = ask(ctx, list[i])
			}
		})
	}
	for i := range list {
		next <- i
	}
	close(next)
	wg.Wait()
	var found []Container
	for i, c := range now {
		switch {
		case errors.Is(errs[i], experiment.ErrGone):
		case errs[i] != nil:
			return nil, errs[i]
		case c.Running && !c.Paused():
			found = append(found, c)
		}
	}
	return found, nil
}
