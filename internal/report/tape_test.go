package report

import (
	"context"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
)

// tape writes journals tersely. Moments are seconds since the run began.
type tape struct {
	events []experiment.Event
	checks []experiment.CheckSummary
}

// op is a step's change in tests.
type op string

func (o op) Apply(context.Context) error { return nil }
func (o op) String() string              { return string(o) }

var dawn = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

const boot = experiment.BootTime(1000 * time.Second)

func at(s float64) experiment.BootTime { return boot.Add(time.Duration(s * 1e9)) }

func bound(v float64) *experiment.Bound { return &experiment.Bound{Value: v} }

func dur(s float64) experiment.Duration { return experiment.Duration(s * 1e9) }

// Checks and actions that the tests share.
var (
	answers = experiment.CheckSummary{Name: "checkout answers", Unit: "ratio", Min: bound(0.99), Weight: 3, Window: dur(1)}
	quick   = experiment.CheckSummary{Name: "checkout is quick", Unit: "s", Max: bound(0.1), Weight: 1, Window: dur(1)}
	orders  = experiment.CheckSummary{Name: "orders flow", Min: bound(2500), Weight: 1}
	kill    = experiment.ActionSummary{Name: "a worker is killed", Type: "kill", For: dur(5)}
	freeze  = experiment.ActionSummary{Name: "freeze", Type: "freeze", For: dur(5)}
)

func newTape(x experiment.Summary) *tape {
	if x.Name == "" {
		x.Name = "checkout-without-recommendations"
	}
	x.File, x.Every, x.SteadyFor, x.RecoveryWithin, x.AbortAfter = "shop.yaml", dur(0.25), dur(2), dur(10), 3
	t := &tape{checks: x.Checks}
	return t.add(0, experiment.Event{Kind: experiment.EventBegin, Header: &experiment.Header{
		Format: 1, Version: "v0.1.0", Seed: 42, Experiment: x,
	}})
}

func (t *tape) add(s float64, e experiment.Event) *tape {
	e.Boot, e.Wall = at(s), dawn.Add(time.Duration(s*1e9))
	t.events = append(t.events, e)
	return t
}

// phase says at s that p has begun at since.
func (t *tape) phase(s float64, p experiment.Phase, since float64) *tape {
	return t.add(s, experiment.Event{Kind: experiment.EventPhase, Phase: &experiment.PhaseMark{Name: p, Since: at(since)}})
}

// value makes one sample of check, whose window ends at s.
func (t *tape) value(check int, s, v float64) *tape {
	c := t.checks[check]
	held := experiment.Check{Min: c.Min, Max: c.Max}.Holds(v)
	return t.add(s, experiment.Event{Kind: experiment.EventSample, Sample: &experiment.Sample{
		Check: check, From: at(s).Add(-c.Window.D()), To: at(s), Value: v, Held: held,
	}})
}

// unmeasured makes one sample of check that could not be measured.
func (t *tape) unmeasured(check int, s float64, why string) *tape {
	return t.add(s, experiment.Event{Kind: experiment.EventSample, Sample: &experiment.Sample{
		Check: check, From: at(s).Add(-t.checks[check].Window.D()), To: at(s), Error: why,
	}})
}

// values makes a sample of every check every 250 ms, from after from to to;
// value gives each check's number.
func (t *tape) values(from, to float64, value ...float64) *tape {
	for s := from + 0.25; s <= to; s += 0.25 {
		for i, v := range value {
			t.value(i, s, v)
		}
	}
	return t
}

func (t *tape) plan(s float64, action int, names ...string) *tape {
	p := &experiment.Plan{Scope: 4}
	for i, n := range names {
		p.Targets = append(p.Targets, experiment.Target{Kind: "process", Name: n, ID: n, PIDs: []experiment.ProcessID{{PID: 4121 + i}}})
	}
	return t.add(s, experiment.Event{Kind: experiment.EventPlan, Action: action, Plan: p})
}

// apply announces step n of action, with its undo unless that is "", and
// applies it. It is of the target that do ends with, or of web.
func (t *tape) apply(s float64, action, n int, do, undo string) *tape {
	step := experiment.PlannedStep{N: n, Target: "web", Step: experiment.Step{Do: op(do)}}
	if _, of, ok := strings.Cut(do, " of "); ok {
		step.Target = of
	}
	if undo != "" {
		step.Undo = op(undo)
	}
	t.add(s, experiment.Event{Kind: experiment.EventAnnounce, Action: action, Steps: []experiment.PlannedStep{step}})
	return t.add(s, experiment.Event{Kind: experiment.EventApplied, Action: action, Step: n, Seconds: 0.0004})
}

func (t *tape) verified(s float64, action, n int, e experiment.Evidence) *tape {
	return t.add(s, experiment.Event{Kind: experiment.EventVerified, Action: action, Step: n, Evidence: &e})
}

func (t *tape) injected(s float64, action int) *tape {
	return t.add(s, experiment.Event{Kind: experiment.EventInjected, Action: action, Seconds: 0.0008})
}

func (t *tape) takeBack(s float64, action int, c experiment.Cause, message string) *tape {
	return t.add(s, experiment.Event{Kind: experiment.EventTakeBack, Action: action, Cause: c, Message: message})
}

func (t *tape) undone(s float64, n int) *tape {
	return t.add(s, experiment.Event{Kind: experiment.EventUndone, Step: n, Seconds: 0.001})
}

func (t *tape) reverted(s float64, action int) *tape {
	return t.add(s, experiment.Event{Kind: experiment.EventReverted, Action: action, Seconds: 0.003})
}

func (t *tape) end(s float64) *tape { return t.add(s, experiment.Event{Kind: experiment.EventEnd}) }

func (t *tape) fold() *Result { return Fold("7f3k2q", t.events) }

// steady is a run up to its first fault at 3 s: begun, measured, steady.
func steady(x experiment.Summary, value ...float64) *tape {
	return newTape(x).values(0.5, 3, value...).phase(3, experiment.PhaseBefore, 0.5).
		add(3, experiment.Event{Kind: experiment.EventGuardian, Guardian: &experiment.GuardianMark{Process: experiment.ProcessID{PID: 99}}})
}

// frozen is a run with a freeze in force from 3 s on.
func frozen(x experiment.Summary, value ...float64) *tape {
	return steady(x, value...).plan(3, 1, "web").
		apply(3, 1, 1, "freeze cgroup /web", "thaw cgroup /web").
		verified(3, 1, 1, experiment.Evidence{InForce: true, What: "cgroup.events: frozen 1"}).
		injected(3, 1).phase(3, experiment.PhaseDuring, 3)
}

// thawed takes the freeze back at 8 s.
func (t *tape) thawed() *tape {
	return t.takeBack(8, 1, experiment.CauseEnd, "").undone(8, 1).reverted(8, 1).phase(8, experiment.PhaseRecovery, 8)
}

func shop(actions ...experiment.ActionSummary) experiment.Summary {
	return experiment.Summary{Checks: []experiment.CheckSummary{answers, quick, orders}, Actions: actions}
}

// slow is a latency on web.
var slow = experiment.ActionSummary{Name: "latency", Type: "latency", For: dur(5)}

// measures adds what an action measured at a target.
func (t *tape) measures(s float64, target string, p experiment.Phase, m experiment.Measurement) *tape {
	m.Target, m.Phase = target, p
	return t.add(s, experiment.Event{Kind: experiment.EventMeasured, Action: 1, Measured: &m})
}

// pings are round trips to the gateway.
func pings(sent, lost int, p50, p99 float64) experiment.Measurement {
	return experiment.Measurement{What: "round trip to 10.1.0.1 (ICMP)", Sent: sent, Lost: lost, Min: p50, Mean: p50, P50: p50, P99: p99, Max: p99}
}

// slowed is a latency that was measured before, announced, and is in force on
// some targets, each with a step, from 3 s on.
func slowed(names ...string) *tape {
	t := steady(shop(slow), 1, 0.031, 2981)
	for _, n := range names {
		t.measures(3, n, experiment.PhaseBefore, pings(5, 0, 0.00021, 0.0004))
	}
	t.plan(3, 1, names...)
	t.events[len(t.events)-1].Plan.Backend = "netem"
	for i, n := range names {
		t.apply(3, 1, i+1, "add netem at eth0 of "+n, "delete netem at eth0 of "+n)
	}
	for i := range names {
		t.verified(3, 1, i+1, experiment.Evidence{InForce: true, Felt: experiment.FeltNothing, What: "eth0: netem delay 20ms, 0 packets"})
	}
	return t.injected(3, 1).phase(3, experiment.PhaseDuring, 3)
}

// quickened takes it back at 8 s, having read again what was felt.
func (t *tape) quickened(steps ...experiment.Evidence) *tape {
	for i, e := range steps {
		t.verified(8, 1, i+1, e)
	}
	t.takeBack(8, 1, experiment.CauseEnd, "")
	for i := range steps {
		t.undone(8, i+1)
	}
	return t.reverted(8, 1).phase(8, experiment.PhaseRecovery, 8).values(8, 10, 1, 0.031, 2981).phase(10, experiment.PhaseAfter, 8).values(10, 11, 1, 0.031, 2981).end(11)
}

// felt is what a step's filter has matched.
func felt(packets string) experiment.Evidence {
	return experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: "eth0: netem delay 20ms, " + packets}
}

// measured is a latency on five targets, four of which could be measured.
func measured() *tape {
	t := slowed("web-1", "web-2", "web-3", "web-4", "web-5").values(3, 8, 1, 0.088, 2700)
	noted := pings(500, 3, 0.02023, 0.0207)
	noted.Notes = []string{"eth1 came later, and is not delayed"}
	t.measures(8, "web-1", experiment.PhaseDuring, noted).
		measures(8, "web-2", experiment.PhaseDuring, pings(500, 500, 0, 0)).
		measures(8, "web-3", experiment.PhaseDuring, experiment.Measurement{What: "not measured: there is no gateway"}).
		measures(8, "web-4", experiment.PhaseDuring, pings(500, 0, 0.02018, 0.0204))
	unfelt := experiment.Evidence{InForce: true, Felt: experiment.FeltNothing, What: "eth0: netem delay 20ms, 0 packets", Hint: "it sent nothing"}
	t.add(8, experiment.Event{Kind: experiment.EventWarning, Action: 1, Message: "nothing ran into it at web-4: " + unfelt.What + "; " + unfelt.Hint})
	return t.quickened(felt("912 packets"), felt("830 packets"), felt("912 packets"), unfelt, felt("17 packets"))
}

// cameBack is a latency on a container that was restarted while it was on.
func cameBack() *tape {
	t := slowed("web-1").values(3, 5, 1, 0.088, 2700).measures(5, "web-1", experiment.PhaseDuring, pings(200, 0, 0.02023, 0.0207))
	t.plan(5, 1, "web-1").apply(5, 1, 2, "add netem at eth0 of web-1", "delete netem at eth0 of web-1")
	again := t.events[len(t.events)-3].Plan
	t.events[len(t.events)-2].Steps[0].Target = "web-1 again"
	again.Targets[0].ID, again.Targets[0].PIDs[0].PID, again.Notes = "web-1 again", 5002, []string{"web-1: there is no IPv6 here"}
	t.verified(5, 1, 2, felt("0 packets")).add(5, experiment.Event{
		Kind: experiment.EventReinjected, Action: 1, Seconds: 0.0031, Message: "web-1 came back, and the fault is on it again",
	})
	t.values(5, 8, 1, 0.088, 2700).measures(8, "web-1 again", experiment.PhaseDuring, pings(300, 1, 0.02021, 0.0206))
	t.add(8, experiment.Event{Kind: experiment.EventWarning, Action: 1, Message: "add netem at eth0 of web-1: the target left while the fault was on"})
	return t.quickened(felt("400 packets"), felt("912 packets"))
}

// pulsed is a freeze of two targets that was held three times for a second.
func pulsed() *tape {
	pulses := experiment.ActionSummary{Name: "hiccups", Type: "freeze", For: dur(5), Repeat: &experiment.Repeat{Pulse: &experiment.Pulse{On: dur(1), Off: dur(1)}}}
	t := steady(shop(pulses), 1, 0.031, 2981)
	for i, s := range []float64{3, 5, 7} {
		n := 2*i + 1
		t.plan(s, 1, "web-1", "web-2")
		t.events[len(t.events)-1].Plan.Strike = []int{0, 2, 3}[i]
		t.apply(s, 1, n, "freeze the cgroup of web-1", "thaw it").apply(s, 1, n+1, "freeze the cgroup of web-2", "thaw it")
		for step, state := range []string{"frozen 1", "frozen 1, 12 processes"} {
			t.verified(s, 1, n+step, experiment.Evidence{InForce: true, What: state})
		}
		if t.injected(s, 1); i == 0 {
			t.phase(3, experiment.PhaseDuring, 3)
		}
		if t.values(s, s+1, 1, 0.088, 2700); i == 2 {
			t.takeBack(8, 1, experiment.CauseEnd, "")
		}
		t.undone(s+1, n).undone(s+1, n+1).reverted(s+1, 1)
		if i < 2 {
			t.values(s+1, s+2, 1, 0.031, 2981)
		}
	}
	return t.phase(8, experiment.PhaseRecovery, 8).values(8, 10, 1, 0.031, 2981).phase(10, experiment.PhaseAfter, 8).values(10, 11, 1, 0.031, 2981).end(11)
}

// restarted is a freeze with onRestart: fail whose target restarted.
func restarted() *tape {
	why := "web-1 left while freeze was on (onRestart: fail)"
	t := frozen(shop(freeze), 1, 0.031, 2981).values(3, 5, 1, 0.031, 2981).
		takeBack(5, 1, experiment.CauseRestarted, why).undone(5, 1).reverted(5, 1).takeBack(5, 0, experiment.CauseRestarted, why)
	return t.phase(5, experiment.PhaseRecovery, 5).values(5, 7, 1, 0.031, 2981).phase(7, experiment.PhaseAfter, 5).values(7, 8, 1, 0.031, 2981).end(8)
}

// unfelt is a latency that nothing ran into.
func unfelt() *tape {
	t := slowed("web-1", "web-2").values(3, 8, 1, 0.031, 2981)
	e := experiment.Evidence{InForce: true, Felt: experiment.FeltNothing, What: "0 of 912 packets matched", Hint: "port 5433 was asked for, and all went to 5432"}
	t.verified(8, 1, 1, e).verified(8, 1, 2, e)
	why := e.What + "; " + e.Hint
	t.add(8, experiment.Event{Kind: experiment.EventMissed, Action: 1, Message: "nothing ran into it: web-1: " + why + " | web-2: " + why})
	return t.quickened(e, e)
}

// cutOff was cut off before already, so that a fault has nothing to show.
func cutOff() *tape {
	t := steady(shop(slow), 1, 0.031, 2981).measures(3, "web", experiment.PhaseBefore, pings(5, 5, 0, 0)).plan(3, 1, "web").
		apply(3, 1, 1, "drop", "stop dropping").injected(3, 1).phase(3, experiment.PhaseDuring, 3).values(3, 8, 1, 0.031, 2981).
		measures(8, "web", experiment.PhaseDuring, pings(500, 500, 0, 0)).
		measures(8, "web", "later", pings(1, 0, 1, 1)).measures(8, "nobody", "later", pings(1, 0, 1, 1))
	return t.add(8, experiment.Event{Kind: experiment.EventMissed, Action: 1, Message: "its table is gone"}).quickened(felt("0 packets"))
}

// none is an experiment without checks.
func none(actions ...experiment.ActionSummary) experiment.Summary {
	return experiment.Summary{Actions: actions}
}

// scenarios are whole runs, one for each way to end.
func scenarios() map[string]*tape {
	return map[string]*tape{
		"pass":               passed(),
		"pass-no-checks":     frozen(none(freeze)).thawed().end(8.1),
		"fail":               failed(),
		"fail-recovery":      frozen(shop(freeze), 1, 0.031, 2981).values(3, 8, 1, 0.031, 2981).thawed().values(8, 18, 0.5, 0.031, 2981).end(18.1),
		"aborted-not-steady": newTape(shop(kill)).values(1, 30, 1, 0.25, 2981).takeBack(30, 0, experiment.CauseNotSteady, "checkout is quick did not hold for 2s within 30s").end(30.1),
		"aborted-interrupted": frozen(shop(freeze), 1, 0.031, 2981).values(3, 5, 1, 0.031, 2981).
			takeBack(5, 0, experiment.CauseInterrupted, "interrupt").undone(5, 1).reverted(5, 1).end(5.1),
		"residue":      residue(),
		"not-injected": missed(),

		"pass-measured":         measured(),
		"pass-reinjected":       cameBack(),
		"pass-pulses":           pulsed(),
		"fail-restarted":        restarted(),
		"not-injected-unfelt":   unfelt(),
		"not-injected-measured": cutOff(),
		"error": steady(shop(freeze), 1, 0.031, 2981).plan(3, 1, "web").
			add(3, experiment.Event{Kind: experiment.EventEnd, Error: "freeze web: open /sys/fs/cgroup/web/cgroup.freeze: permission denied"}),
		"unfinished": frozen(shop(freeze), 1, 0.031, 2981).values(3, 4, 1, 0.031, 2981),
	}
}

// passed is a kill that the checks hardly felt.
func passed() *tape {
	t := steady(shop(kill), 1, 0.031, 2981).plan(3, 1, "web-1").
		apply(3, 1, 1, "send KILL to pid 4121", "").
		verified(3, 1, 1, experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: "process gone"}).
		injected(3, 1).phase(3, experiment.PhaseDuring, 3).
		values(3, 4.5, 1, 0.088, 2700).values(4.5, 8, 1, 0.031, 2981)
	return t.takeBack(8, 1, experiment.CauseEnd, "").reverted(8, 1).phase(8, experiment.PhaseRecovery, 8).
		values(8, 9.5, 1, 0.031, 2981).phase(9.5, experiment.PhaseAfter, 8).values(9.5, 10, 1, 0.031, 2981).end(10.1)
}

// failed is a freeze that was taken back early.
func failed() *tape {
	t := frozen(shop(freeze), 1, 0.031, 2981).values(3, 3.75, 1, 0.031, 2981)
	for s := 4.0; s < 5; s += 0.25 {
		t.value(0, s, 0.41).unmeasured(1, s, "no answer within 1s").value(2, s, 2600)
	}
	t.takeBack(5, 0, experiment.CauseAbortAfter, "3 failed samples of checkout answers in a row").
		undone(5, 1).reverted(5, 1).phase(5, experiment.PhaseRecovery, 5).
		values(5, 6, 0.8, 0.25, 2981).values(6, 9, 1, 0.031, 2981)
	return t.phase(9, experiment.PhaseAfter, 5.25).values(9, 10, 1, 0.031, 2981).end(10.1)
}

// residue is a freeze that could not be taken back.
func residue() *tape {
	t := frozen(shop(freeze), 1, 0.031, 2981).values(3, 8, 1, 0.031, 2981).takeBack(8, 1, experiment.CauseEnd, "")
	for range 3 {
		t.add(8, experiment.Event{Kind: experiment.EventUndoFail, Step: 1, Error: "write cgroup.freeze: device or resource busy"})
	}
	return t.add(68, experiment.Event{Kind: experiment.EventGaps, Gaps: []experiment.Gap{{Workload: "web", Before: 4, Now: 3}}}).
		add(68, experiment.Event{Kind: experiment.EventDrift, Drift: []experiment.Drift{{Object: "net:4026531840", Gone: []string{"qdisc noqueue lo"}, New: []string{"qdisc tbf lo"}}}}).
		end(68.1)
}

// missed is a fault that hit nothing.
func missed() *tape {
	e := experiment.Evidence{InForce: true, Felt: experiment.FeltNo, What: "0 of 912 packets matched", Hint: "port 5433 was asked for, and all 912 packets went to 5432"}
	t := steady(shop(freeze), 1, 0.031, 2981).plan(3, 1, "web").
		apply(3, 1, 1, "add nft table inet simian_7f3k2q", "delete nft table inet simian_7f3k2q").
		injected(3, 1).phase(3, experiment.PhaseDuring, 3).values(3, 8, 1, 0.031, 2981).verified(8, 1, 1, e)
	return t.add(8, experiment.Event{Kind: experiment.EventMissed, Action: 1, Message: "its filter matched nothing"}).
		takeBack(8, 0, experiment.CauseNotInjected, "").undone(8, 1).reverted(8, 1).end(8.1)
}
