package report

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

func follow(t *testing.T, tape *tape, style Style, terminal bool) string {
	t.Helper()
	var b bytes.Buffer
	p := NewProgress(&b, style, terminal)
	for i := range tape.events {
		tape.events[i].Run = "7f3k2q"
		p.Event(&tape.events[i])
	}
	p.Close()
	return b.String()
}

func TestProgress(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pass", "fail", "residue", "not-injected", "aborted-interrupted", "error", "pass-reinjected", "not-injected-unfelt", "pass-pulses", "fail-restarted"} {
		golden(t, name+".progress", follow(t, scenarios()[name], Style{}, false))
	}
	golden(t, "fail.live", visible(follow(t, scenarios()["fail"], Style{Width: 80}, true)))
}

// visible puts each rewriting of the live line on a line of its own.
func visible(s string) string { return strings.ReplaceAll(s, eraseLine, "⏎\n") }

// TestLiveLine: the live line is narrower than the terminal, erased before
// any other line, and not written too often.
func TestLiveLine(t *testing.T) {
	t.Parallel()
	out := follow(t, failed(), Style{Width: 50}, true)
	for _, line := range strings.Split(out, "\n") {
		for i, part := range strings.Split(line, eraseLine) {
			if i > 0 && !strings.Contains(part, " s  ") && columns(part) >= 50 {
				t.Errorf("%d columns: %q", columns(part), part)
			}
		}
		if last := line[strings.LastIndex(line, "\r")+1:]; strings.Contains(line, eraseLine) && strings.Contains(last, "during  ") {
			t.Errorf("a live line was left to stand: %q", line)
		}
	}
	if !strings.HasSuffix(out, "\n") {
		t.Errorf("it does not end on a new line: %q", out[len(out)-20:])
	}
	tape := steady(shop(freeze), 1, 0.031, 2981)
	for i := range 1000 {
		tape.value(0, 3+float64(i)/1000, 1)
	}
	if n := strings.Count(follow(t, tape, Style{}, true), eraseLine); n > 30 {
		t.Errorf("the live line was written %d times in 4 seconds", n)
	}
}

// TestFlapping: a check that breaks and holds by turns does not flood.
func TestFlapping(t *testing.T) {
	t.Parallel()
	tape := frozen(shop(freeze), 1, 0.031, 2981)
	for i := range 1000 {
		tape.value(0, 4+float64(i)/100, float64(i%2))
	}
	out := follow(t, tape, Style{}, false)
	if n := strings.Count(out, "BROKE"); n < 1 || n > 11 {
		t.Errorf("told %d times in 10 seconds that it broke", n)
	}
}

// stuck is a terminal after Ctrl-S.
type stuck struct{ release chan struct{} }

func (s stuck) Write(b []byte) (int, error) { <-s.release; return len(b), nil }

// broken is a terminal that was closed.
type broken struct{ writes int }

func (w *broken) Write([]byte) (int, error) {
	w.writes++
	return 0, errors.New("input/output error")
}

func TestProgressNeverWaits(t *testing.T) {
	t.Parallel()
	w := stuck{make(chan struct{})}
	defer close(w.release)
	p := NewProgress(w, Style{}, true)
	start := time.Now()
	for range 10_000 {
		p.Event(&experiment.Event{Kind: experiment.EventWarning, Message: "careful"})
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("10,000 events took %s", d)
	}
	p.Close()
	p.Event(&experiment.Event{Kind: experiment.EventWarning, Message: "late"})
	p.Close()
	if d := time.Since(start); d > 2*lastWait {
		t.Errorf("it waited %s for a terminal that stands still", d)
	}
	if p.out.dropped == 0 {
		t.Error("nothing was dropped")
	}
}

func TestProgressClosedTerminal(t *testing.T) {
	t.Parallel()
	var w broken
	p := NewProgress(&w, Style{}, true)
	for range 100 {
		p.Event(&experiment.Event{Kind: experiment.EventWarning, Message: "careful"})
	}
	p.Close()
	if w.writes != 1 {
		t.Errorf("%d writes to a terminal that is gone", w.writes)
	}
}

func TestTextToClosedTerminal(t *testing.T) {
	t.Parallel()
	if err := Text(&broken{}, whole().fold(), Style{}); err == nil {
		t.Error("Text does not say that it could not write")
	}
	if err := JSON(&broken{}, whole().fold()); err == nil {
		t.Error("JSON does not say that it could not write")
	}
}
