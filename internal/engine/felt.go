package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// feltBy is whether the targets of an action ran into it.
type feltBy struct {
	yes     map[string]bool                // by target: a step of it was felt
	nothing map[string]experiment.Evidence // by target: a step whose filter matched nothing
	names   []string                       // of the targets in nothing, in order
	left    bool                           // a target left, and what it felt cannot be read
}

func newFelt() *feltBy {
	return &feltBy{yes: map[string]bool{}, nothing: map[string]experiment.Evidence{}}
}

func (f *feltBy) add(h heldStep, ev experiment.Evidence, err error) {
	if err != nil {
		f.left = f.left || errors.Is(err, experiment.ErrGone)
		return
	}
	switch ev.Felt {
	case experiment.FeltYes:
		f.yes[h.Target] = true
	case experiment.FeltNothing:
		if _, known := f.nothing[h.Target]; !known {
			f.names = append(f.names, h.Target)
		}
		f.nothing[h.Target] = ev
	}
}

// mostIdle is how many targets that felt nothing are told of.
const mostIdle = 3

// feltOf returns what the targets of action i have felt so far.
func (r *runner) feltOf(i int) *feltBy {
	if r.mu.Lock(); r.felt[i] == nil {
		r.felt[i] = newFelt()
	}
	defer r.mu.Unlock()
	return r.felt[i]
}

// judgeFelt says that action i was not injected where its filter matched
// nothing on any target in any strike, and warns of the targets where it did
// not. One that left meanwhile may have felt it.
func (r *runner) judgeFelt(i int) {
	f := r.feltOf(i)
	var idle []string
	for _, id := range f.names {
		if !f.yes[id] {
			ev := f.nothing[id]
			idle = append(idle, strings.TrimSuffix(fmt.Sprintf("%s: %s; %s", r.nameOf(id), ev.What, ev.Hint), "; "))
		}
	}
	if more := len(idle) - mostIdle; more > 1 {
		idle = append(idle[:mostIdle], fmt.Sprintf("%d more targets", more))
	}
	if len(idle) == 0 {
		return
	}
	if len(f.yes) == 0 && !f.left {
		r.missed(i, "nothing ran into it: "+strings.Join(idle, " | "))
		return
	}
	for _, why := range idle {
		r.log(experiment.Event{Kind: experiment.EventWarning, Action: i + 1, Message: "nothing ran into it at " + why})
	}
}

// nameOf names a target by its ID.
func (r *runner) nameOf(id string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.past.targets[id]; ok {
		return t.Name
	}
	return id
}
