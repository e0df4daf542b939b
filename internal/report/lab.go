package report

import (
	"fmt"
	"slices"

	"github.com/simianhq/simian/experiment"
)

// Lab is the containers that a run launched, or struck where they stood.
type Lab struct {
	Name       string           `json:"name"`             // the Compose project's
	Struck     experiment.RunID `json:"struck,omitempty"` // the standing lab, by the run that launched it
	Containers int              `json:"containers,omitzero"`
	Up         *float64         `json:"upSeconds,omitempty"` // until all were up and healthy
	Ends       []ContainerEnd   `json:"ends,omitempty"`      // in order, the lab's own end left out
}

// ContainerEnd is the end of a container's process while the lab was up.
type ContainerEnd struct {
	Container string   `json:"container"`
	Exit      string   `json:"exit"`                       // such as "exit 1", "killed by SIGKILL", "out of memory"
	Restart   *float64 `json:"restartedSeconds,omitempty"` // after so long; nil where it was not restarted
	Policy    string   `json:"policy,omitempty"`           // that restarted it
	By        string   `json:"by,omitempty"`               // the fault that ended it, or had it started anew

	at experiment.BootTime
}

// mostEnds is how many ends of containers a result holds: one in a crash loop
// has many.
const mostEnds = 1000

// labFold folds what becomes of a lab.
type labFold struct {
	lab  *Lab
	open map[string]int // by container: its last end, not restarted yet
}

func (f *labFold) begin(s *experiment.LabSummary) {
	if s == nil {
		return
	}
	f.lab = &Lab{Name: s.Name, Struck: s.Struck}
	f.open = map[string]int{}
}

// add takes in what became of the lab, or of a container.
func (f *labFold) add(e *experiment.Event) {
	switch {
	case f.lab == nil:
	case e.Kind == experiment.EventLabUp:
		f.lab.Up, f.lab.Containers = known(e.Seconds), e.Containers
	case e.Container == nil:
	case e.Container.State == experiment.ContainerExited:
		f.ended(e)
	case e.Container.State == experiment.ContainerRunning:
		f.restarted(e)
	}
}

func (f *labFold) ended(e *experiment.Event) {
	if len(f.lab.Ends) == mostEnds {
		return
	}
	f.open[e.Container.Name] = len(f.lab.Ends)
	f.lab.Ends = append(f.lab.Ends, ContainerEnd{Container: e.Container.Name, Exit: e.Container.Exit, By: e.Container.By, at: e.Boot})
}

func (f *labFold) restarted(e *experiment.Event) {
	i, ok := f.open[e.Container.Name]
	if !ok {
		return
	}
	end := &f.lab.Ends[i]
	end.Restart, end.Policy = seconds(e.Boot.Sub(end.at)), e.Container.Policy
	if e.Container.By != "" {
		end.By = e.Container.By
	}
	delete(f.open, e.Container.Name)
}

// result returns the lab so far, nil where there is none. More may be folded
// after it.
func (f *labFold) result() *Lab {
	if f.lab == nil {
		return nil
	}
	l := *f.lab
	l.Ends = slices.Clone(l.Ends)
	return &l
}

// lab writes how the lab came up.
func (p *page) lab() {
	l := p.r.Lab
	switch {
	case l == nil:
	case l.Struck != "":
		p.say("lab", fmt.Sprintf("%s, standing (run %s)", l.Name, l.Struck))
	case l.Up == nil:
		p.sayIn(yellow, "lab", l.Name+" did not come up")
	default:
		p.say("lab", fmt.Sprintf("%s up in %s", plural(l.Containers, "container", "containers"), humanSeconds(*l.Up)))
	}
}

// ends writes which containers ended meanwhile, and how they came back.
func (p *page) ends() {
	if p.r.Lab == nil {
		return
	}
	label := "lab"
	for _, e := range p.r.Lab.byContainer() {
		p.say(label, endings(e))
		label = ""
	}
}

// byContainer returns the ends of each container, in the order of the first.
func (l *Lab) byContainer() [][]ContainerEnd {
	var all [][]ContainerEnd
	at := map[string]int{}
	for _, e := range l.Ends {
		i, ok := at[e.Container]
		if !ok {
			i = len(all)
			at[e.Container], all = i, append(all, nil)
		}
		all[i] = append(all[i], e)
	}
	return all
}

// endings tells of the ends of one container, in one line.
func endings(ends []ContainerEnd) string {
	last := ends[len(ends)-1]
	words := last.Container + " ended: " + last.Exit
	if len(ends) > 1 {
		words = fmt.Sprintf("%s ended %d times, at last: %s", last.Container, len(ends), last.Exit)
	}
	if last.Restart == nil {
		return words + " · not restarted"
	}
	slowest := *last.Restart
	for _, e := range ends {
		if e.Restart != nil {
			slowest = max(slowest, *e.Restart)
		}
	}
	by := "restarted by the lab after "
	if len(ends) > 1 {
		by = "restarted by the lab within "
	}
	return words + " · " + by + humanSeconds(slowest) + parens(cause(last.Policy, last.By))
}

// cause says what a container was started again by.
func cause(policy, by string) string {
	if policy == "" {
		return by
	}
	return "restart: " + policy
}

// contain tells what becomes of a container, where it is worth it.
func (p *Progress) contain(e *experiment.Event) {
	c := e.Container
	switch {
	case c == nil:
	case c.State == experiment.ContainerExited:
		words := c.Name + " ended: " + c.Exit
		if c.By != "" {
			words += parens(c.By)
		}
		p.tell(e, yellow, words)
	case c.State == experiment.ContainerUnhealthy:
		p.tell(e, yellow, c.Name+" is unhealthy")
	case c.State == experiment.ContainerRunning && c.Start > 1:
		p.tell(e, plain, fmt.Sprintf("%s restarted by the lab (%s), %s", c.Name, cause(c.Policy, c.By), c.Process))
	}
}

// labUp tells that the lab is up.
func (p *Progress) labUp(e *experiment.Event) {
	p.tell(e, green, fmt.Sprintf("lab up: %s in %s", plural(e.Containers, "container", "containers"), humanSeconds(e.Seconds)))
	p.awaitSteady(e)
}
