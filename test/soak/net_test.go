package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

// TestFlowsAfter: questions a millisecond apart, each answered (.), late (l)
// or lost (x).
func TestFlowsAfter(t *testing.T) {
	t.Parallel()
	const ms, late = time.Millisecond, 10 * time.Millisecond
	for _, c := range []struct {
		name, seen string
		from, want time.Duration // from the first question on
	}{
		{"at once", "..............", 2 * ms, 0},
		{"between two", "..............", 2*ms + ms/2, ms / 2},
		{"after some were lost", "....xxxx..........", 4 * ms, 4 * ms},
		{"after some were late", "....llxl..........", 4 * ms, 4 * ms},
		{"one by chance is none", "xxxx.xxxx..........xx", 0, 9 * ms},
		{"never", "....xxxxxxxxxx.....", 4 * ms, -1},
		{"nothing is known", "", 0, -1},
	} {
		var list []known
		for i, r := range c.seen {
			took := map[rune]time.Duration{'.': ms / 10, 'l': 30 * ms, 'x': -1}[r]
			list = append(list, known{experiment.BootTime(time.Duration(i) * ms), took})
		}
		if got := flowsAfter(list, experiment.BootTime(c.from), late); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestDiary: answers are told from others, and the memory goes round.
func TestDiary(t *testing.T) {
	t.Parallel()
	p, err := newPulse()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for i := range experiment.BootTime(beats + 3) {
		n := p.ask(1e6 * (i + 1))
		p.answered(n, 1e6*(i+1)+5)
		p.answered(n, 1e6*(i+1)+9) // a double
	}
	p.answered(1, 2)       // long forgotten
	p.answered(beats+9, 2) // never asked
	list := p.between(0, 1<<62)
	if len(list) != beats || list[0].sent != 4e6 || list[len(list)-1].sent != 1e6*(beats+3) {
		t.Fatalf("%d questions, from %d", len(list), list[0].sent)
	}
	if slices.ContainsFunc(list, func(k known) bool { return k.took != 5 }) {
		t.Error("not all have the first answer of theirs")
	}
	if last := p.last(7, 1e6*beats); len(last) != 7 || last[6].sent != 1e6*beats {
		t.Errorf("the last 7: %v", last)
	}
}

// TestInForce reads a journal at several moments.
func TestInForce(t *testing.T) {
	t.Parallel()
	lines, err := parseLines([]byte(`{"boot":1,"kind":"announce","action":1,"steps":[{"n":1,"do":{"type":"nft"},"undo":{"type":"nftgone"}},{"n":2,"do":{"type":"qdisc"}}]}
{"boot":2,"kind":"applied","step":1}
{"boot":3,"kind":"applied","step":2,"error":"no"}
{"boot":5,"kind":"announce","action":2,"steps":[{"n":3,"do":{"type":"stop"}}]}
{"boot":6,"kind":"applied","step":3}
{"boot":8,"kind":"undone","step":1}
`))
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[experiment.BootTime]string{1: "", 2: "nft", 4: "nft", 7: "nft", 8: ""} {
		if got := strings.Join(inForce(lines, at), " "); got != want {
			t.Errorf("at %d: %q, want %q", at, got, want)
		}
	}
}

// TestDifferences: what the blow explains is left out.
func TestDifferences(t *testing.T) {
	t.Parallel()
	before, now := []string{"link eth0", "route via eth0", "nft table"}, []string{"nft table", "qdisc tbf"}
	for _, c := range []struct {
		forgive func(string, bool) bool
		want    []string
	}{
		{nil, []string{"-link eth0", "-route via eth0", "+qdisc tbf"}},
		{aboutLink, []string{"+qdisc tbf"}},
	} {
		w := wire{forgive: c.forgive}
		if got := w.differences(before, now); !slices.Equal(got, c.want) {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestDrift: what a report shows of a wire's network is a leak, unless the
// blow explains it.
func TestDrift(t *testing.T) {
	t.Parallel()
	text := json.RawMessage(`{"Object":"net:42","Gone":["link eth0"],"New":["qdisc netem"]}`)
	one := &trial{recipe: &recipe{wire: &wire{forgive: aboutLink}}}
	one.drifted(text)
	if len(one.leaks) != 1 || !strings.HasSuffix(one.leaks[0], "+qdisc netem") {
		t.Errorf("%q", one.leaks)
	}
	other := &trial{recipe: &recipe{}}
	other.drifted(text)
	if len(other.leaks) != 0 || len(other.drift) != 1 {
		t.Errorf("%q, %q", other.leaks, other.drift)
	}
}
