package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// finding is one thing that keeps a run from passing.
type finding struct {
	verdict experiment.Verdict
	why     string // a sentence, without its full stop
}

// judge sets the verdict of r, the reasons for it, the cause and the score.
// An unfinished run has neither verdict nor score: it may still be going on.
func (f *Folder) judge(r *Result) {
	if len(f.stops) > 0 {
		r.Cause, r.CauseMessage = f.stops[0].cause, f.stops[0].message
	}
	f.recovery(r)
	r.Error = strings.Join(f.runErrors(), "; ")
	if !f.finished {
		return
	}
	var all []finding
	for _, rule := range []func(*Result) []finding{f.leftovers, f.misses, f.failure, f.brokenChecks, f.slowRecovery, f.restarts, f.cutShort} {
		all = append(all, rule(r)...)
	}
	r.Verdict = worst(all)
	r.Score = f.score(r)
	slices.SortStableFunc(all, func(a, b finding) int { return cmp.Compare(severity(a.verdict), severity(b.verdict)) })
	for _, one := range all {
		r.Reasons = append(r.Reasons, one.why)
	}
}

func worst(all []finding) experiment.Verdict {
	verdicts := make([]experiment.Verdict, 0, len(all))
	for _, one := range all {
		verdicts = append(verdicts, one.verdict)
	}
	return experiment.Worst(verdicts...)
}

// severity orders verdicts, the worst first.
func severity(v experiment.Verdict) int {
	return slices.Index([]experiment.Verdict{
		experiment.Residue, experiment.NotInjected, experiment.Errored, experiment.Fail, experiment.Aborted,
	}, v)
}

// score is 100 × the weights of the checks that held ÷ all weights. There is
// none where there are no checks, and none where the run did not go its whole
// way or a fault was not in force: it would say nothing of the system.
func (f *Folder) score(r *Result) *float64 {
	var held, all float64
	for _, c := range r.Checks {
		all += c.Weight
		if c.Held {
			held += c.Weight
		}
	}
	if !f.wentItsWay() || len(f.misses(r)) > 0 || !(all > 0) {
		return nil
	}
	s := 100 * held / all
	return &s
}

// leftovers: residue.
func (f *Folder) leftovers(r *Result) []finding {
	if n := len(r.Residue); n > 0 {
		return []finding{{experiment.Residue, plural(n, "thing is", "things are") + " not put back"}}
	}
	if f.leftOnce {
		return []finding{{experiment.Aborted, "what it left behind when it first ended was put back by a later rollback"}}
	}
	return nil
}

// misses: not-injected, one finding for each action that was not in force.
func (f *Folder) misses(r *Result) []finding {
	var out []finding
	for i := range r.Faults {
		if why := f.missed(&f.actions[i], &r.Faults[i]); why != "" {
			out = append(out, finding{experiment.NotInjected, why})
		}
	}
	if s, ok := f.stopped(experiment.CauseNotInjected); ok && len(out) == 0 {
		out = append(out, finding{experiment.NotInjected, "the fault was not in force" + prefixed(": ", s.message)})
	}
	return out
}

func (f *Folder) missed(a *actionFold, t *Fault) string {
	if a.wasMissed {
		return fmt.Sprintf("%s was not in force%s", t.Name, prefixed(": ", t.Missed))
	}
	for _, e := range t.Evidence {
		if !e.InForce {
			return fmt.Sprintf("%s: step %d is not in force%s", t.Name, e.Step, prefixed(": ", e.What))
		}
	}
	if a.strikes == 0 && len(f.stops) == 0 && len(f.errors) == 0 {
		return t.Name + " was never injected"
	}
	return ""
}

// runErrors returns why the run could not be run, or go on.
func (f *Folder) runErrors() []string {
	out := slices.Clone(f.errors)
	if f.header == nil && f.finished {
		out = append(out, "its journal has no first line, so nothing shows what was to be done")
	}
	if s, ok := f.stopped(experiment.CauseError); ok && len(out) == 0 {
		out = append(out, orElse(s.message, "it could not go on"))
	}
	return out
}

// failure: error.
func (f *Folder) failure(r *Result) []finding {
	if r.Error == "" {
		return nil
	}
	return []finding{{experiment.Errored, r.Error}}
}

// brokenChecks: fail, one finding for each check that did not hold. One that
// was not measured is held against a run only where that went its whole way.
func (f *Folder) brokenChecks(r *Result) []finding {
	var out []finding
	for i := range r.Checks {
		c := &r.Checks[i]
		why := ""
		switch {
		case c.During.broke(c.Allow):
			why = c.broke(&c.During, "during the fault") + c.mended()
		case c.After.broke(c.Allow):
			why = c.broke(&c.After, "after the fault")
		case !c.Held && f.wentItsWay():
			why = f.unmeasured(i, c)
		}
		if why != "" {
			out = append(out, finding{experiment.Fail, why})
		}
	}
	if s, ok := f.stopped(experiment.CauseAbortAfter); ok {
		out = append(out, finding{experiment.Fail, "the fault was taken back early" + prefixed(": ", s.message)})
	}
	if s, ok := f.stopped(experiment.CauseRestarted); ok {
		out = append(out, finding{experiment.Fail, orElse(s.message, "a target left while a fault was on")})
	}
	return out
}

// unmeasured says in which phase c was not measured. Where no after phase
// began, slowRecovery says so for all checks.
func (f *Folder) unmeasured(i int, c *Check) string {
	phase, hint := f.unseen(f.checks[i], c), ""
	switch _, settled := f.marks.since(after); {
	case phase == "" || phase == "after" && !settled:
		return ""
	case phase == "during":
		hint = "; give the action more time, or the check a shorter window"
	}
	return fmt.Sprintf("%s was never measured %s the fault, so nothing shows that it held%s", c.Name, phase, hint)
}

// wentItsWay tells whether the run got as far as to inject, and was left to
// see how the system recovers.
func (f *Folder) wentItsWay() bool {
	for _, s := range f.stops {
		if s.cause != experiment.CauseAbortAfter && s.cause != experiment.CauseRestarted {
			return false
		}
	}
	return f.injected != nil && len(f.errors) == 0
}

// recovery fills in how long the slowest check took to recover: nothing where
// none failed.
func (f *Folder) recovery(r *Result) {
	if _, settled := f.marks.since(after); !settled {
		return
	}
	for _, c := range r.Checks {
		if c.Mend != nil && (r.RecoverySeconds == nil || *c.Mend > *r.RecoverySeconds) {
			r.RecoverySeconds = c.Mend
		}
	}
}

// slowRecovery: fail, where not every check was steady again in time after
// the last fault was over.
func (f *Folder) slowRecovery(r *Result) []finding {
	if len(f.checks) == 0 || !f.wentItsWay() {
		return nil
	}
	limit := f.header.Experiment.RecoveryWithin
	again, settled := f.marks.since(after)
	from, begun := f.marks.since(recovery)
	switch {
	case !settled && !begun:
		return []finding{{experiment.Fail, "recovery was not watched, so nothing shows that the checks hold again"}}
	case !settled && f.last.Sub(from) < limit.D():
		return []finding{{experiment.Fail, fmt.Sprintf("recovery was watched for %s only, so nothing shows that the checks hold again", humanSeconds(f.last.Sub(from).Seconds()))}}
	case !settled:
		return []finding{{experiment.Fail, fmt.Sprintf("%s not steady again within %s", unsteady(r), humanSeconds(limit.D().Seconds()))}}
	case begun && again.Sub(from) > limit.D():
		return []finding{{experiment.Fail, fmt.Sprintf("steady again only after %s, and %s were allowed",
			humanSeconds(again.Sub(from).Seconds()), humanSeconds(limit.D().Seconds()))}}
	}
	return nil
}

// unsteady names the checks whose last samples did not hold.
func unsteady(r *Result) string {
	var names []string
	for _, c := range r.Checks {
		if c.Unsteady {
			names = append(names, c.Name)
		}
	}
	switch len(names) {
	case 0:
		return "the checks were"
	case 1:
		return names[0] + " was"
	}
	return strings.Join(names, ", ") + " were"
}

// restarts: fail, where a workload came back only because Simian started it.
func (f *Folder) restarts(*Result) []finding {
	var out []finding
	for _, g := range f.found.gaps {
		if g.Now >= g.Before && g.Started > 0 {
			out = append(out, finding{experiment.Fail, fmt.Sprintf("%s did not come back by itself: Simian started %d of %d", g.Workload, g.Started, g.Before)})
		}
	}
	return out
}

// cutShort: aborted. A cause that is none of those that other rules judge
// cuts a run short too, one of a later version's included.
func (f *Folder) cutShort(*Result) []finding {
	judged := []experiment.Cause{experiment.CauseAbortAfter, experiment.CauseRestarted, experiment.CauseNotInjected, experiment.CauseError}
	var out []finding
	for _, s := range f.stops {
		if slices.Contains(judged, s.cause) {
			continue
		}
		judged = append(judged, s.cause)
		out = append(out, finding{experiment.Aborted, inWords(s.cause) + prefixed(": ", s.message)})
	}
	return out
}

func inWords(c experiment.Cause) string {
	switch c {
	case experiment.CauseNotSteady:
		return "not steady before the fault, so nothing was injected"
	case experiment.CauseInterrupted:
		return "interrupted"
	case experiment.CauseGuardian:
		return "the guardian died, so the run took everything back"
	case experiment.CauseRunnerDied:
		return "the runner died, and what it did was taken back for it"
	case experiment.CauseDeadline:
		return "the runner stood still past its deadline, so the guardian ended it"
	}
	return "taken back for another cause" + parens(string(c))
}

// stopped returns the first take-back for cause.
func (f *Folder) stopped(cause experiment.Cause) (stop, bool) {
	for _, s := range f.stops {
		if s.cause == cause {
			return s, true
		}
	}
	return stop{}, false
}

// broke says how c broke in one phase.
func (c *Check) broke(s *Samples, when string) string {
	count := fmt.Sprintf("%s of %s failed", count(s.Failed), plural(s.Count, "sample", "samples"))
	if s.Worst == nil {
		return fmt.Sprintf("%s could not be measured %s%s (%s)", c.Name, when, prefixed(": ", s.Error), count)
	}
	verb := "was"
	switch {
	case c.Min != nil && *s.Worst < *c.Min:
		verb = "fell to"
	case c.Max != nil && *s.Worst > *c.Max:
		verb = "rose to"
	case s.Error != "":
		return fmt.Sprintf("%s could not always be measured %s: %s (%s)", c.Name, when, s.Error, count)
	}
	return fmt.Sprintf("%s %s %s %s (%s)", c.Name, verb, humanValue(*s.Worst, c.Unit), when, count)
}

func (c *Check) mended() string {
	if c.Mend == nil {
		return ""
	}
	return fmt.Sprintf(", and was steady again after %s", humanSeconds(*c.Mend))
}
