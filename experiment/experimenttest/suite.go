package experimenttest

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/simianhq/simian/experiment"
)

// How long a suite waits.
const (
	// patience is for what must come to pass.
	patience = 10 * time.Second
	// absence is for an op to say that its change does not stand: it waits as
	// long as it may for it to do so.
	absence = 300 * time.Millisecond
	// settling is for the system to be as it was after an undo.
	settling = 2 * time.Second
)

// part runs one part of a suite, as a subtest where there can be one.
func part(t testing.TB, name string, fn func(t testing.TB)) {
	t.Helper()
	if t, ok := t.(*testing.T); ok {
		t.Run(name, func(t *testing.T) { fn(t) })
		return
	}
	fn(t)
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// survive returns steps as another process would read them from the journal.
func survive(t testing.TB, c experiment.Codec, steps []experiment.Step) []experiment.Step {
	t.Helper()
	e := experiment.Event{Kind: experiment.EventAnnounce}
	for i, s := range steps {
		e.Steps = append(e.Steps, experiment.PlannedStep{N: i + 1, Target: "t", Step: s})
	}
	line, err := c.Marshal(&e)
	if err != nil {
		t.Fatalf("a step cannot be written to the journal: %v", err)
	}
	if strings.Contains(string(line), "\n") {
		t.Errorf("a step takes more than one line of the journal: %s", line)
	}
	var again experiment.Event
	if err := c.Decoder()(line, &again); err != nil {
		t.Fatalf("a step cannot be read from the journal: %v\n%s", err, line)
	}
	read := make([]experiment.Step, len(again.Steps))
	for i, s := range again.Steps {
		read[i] = s.Step
	}
	return read
}

// sameSteps asks that two lists of steps are equal, field by field.
func sameSteps(t testing.TB, what string, a, b []experiment.Step) {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%s: %d steps became %d", what, len(a), len(b))
	}
	for i := range a {
		sameOp(t, what, a[i].Do, b[i].Do)
		sameOp(t, what, a[i].Undo, b[i].Undo)
	}
}

func sameOp(t testing.TB, what string, a, b experiment.Op) {
	t.Helper()
	switch {
	case a == nil && b == nil:
	case a == nil || b == nil:
		t.Errorf("%s: %v became %v", what, a, b)
	case !reflect.DeepEqual(indirect(a), indirect(b)):
		t.Errorf("%s: an op is not the same:\n%#v\n%#v", what, indirect(a), indirect(b))
	case a.String() != b.String():
		t.Errorf("%s: %q became %q", what, a, b)
	}
}

// indirect returns an op, or what it points to: the journal may give either.
// Pointers that the catalogue has put into it are left out: a fault's ops and
// the journal's are of catalogues of their own.
func indirect(op experiment.Op) any {
	v := reflect.ValueOf(op)
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return v.Interface()
	}
	own := reflect.New(v.Type()).Elem()
	own.Set(v)
	for i := range own.NumField() {
		if f := own.Field(i); !v.Type().Field(i).IsExported() && f.Kind() == reflect.Pointer {
			reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem().SetZero()
		}
	}
	return own.Interface()
}

// describesItself asks for one line, and for the names of what an op changes.
func describesItself(t testing.TB, steps []experiment.Step) {
	t.Helper()
	held := map[string]bool{}
	for _, s := range steps {
		oneLine(t, "String of an op", s.Do.String())
		for _, h := range handles(t, s.Do) {
			held[h] = true
		}
	}
	for _, s := range steps {
		if s.Undo == nil {
			continue
		}
		oneLine(t, "String of an undo", s.Undo.String())
		if _, ok := s.Undo.(experiment.Handled); !ok {
			continue
		}
		for _, h := range handles(t, s.Undo) {
			if !held[h] {
				t.Errorf("%s changes %q, which no step has locked", s.Undo, h)
			}
		}
	}
}

func handles(t testing.TB, op experiment.Op) []string {
	t.Helper()
	h, ok := op.(experiment.Handled)
	if !ok || len(h.Handles()) == 0 {
		t.Errorf("%s does not name the handles it changes", op)
		return nil
	}
	for _, name := range h.Handles() {
		if kind, object, ok := strings.Cut(name, ":"); !ok || kind == "" || object == "" {
			t.Errorf("%s: the handle %q is not KIND:OBJECT", op, name)
		}
	}
	return h.Handles()
}

func oneLine(t testing.TB, what, s string) {
	t.Helper()
	if strings.TrimSpace(s) == "" || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%s is not one line that can be printed: %q", what, s)
	}
}

// inForce asks an op that can tell whether its change stands.
func inForce(t testing.TB, when string, op experiment.Op, want bool) {
	t.Helper()
	v, ok := op.(experiment.Verifier)
	if !ok {
		return
	}
	wait := patience
	if !want {
		wait = absence
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	e, err := v.Verify(ctx)
	switch {
	case err != nil && !errors.Is(err, experiment.ErrGone):
		t.Errorf("%s: Verify of %s gives %v", when, op, err)
	case err == nil && e.InForce != want:
		t.Errorf("%s: Verify of %s says in force %v, want %v (%s; %s)", when, op, e.InForce, want, e.What, e.Hint)
	case err != nil && want:
		t.Errorf("%s: Verify of %s says that it is gone", when, op)
	}
}

// do applies the changes of all steps, in order.
func do(t testing.TB, steps []experiment.Step) {
	t.Helper()
	for _, s := range steps {
		if err := s.Do.Apply(bounded(t)); err != nil {
			t.Fatalf("%s: %v", s.Do, err)
		}
	}
}

// undo takes all steps back, in reverse. What is gone needs none.
func undo(t testing.TB, when string, steps []experiment.Step) {
	t.Helper()
	for _, s := range slices.Backward(steps) {
		if err := s.Undo.Apply(bounded(t)); err != nil && !errors.Is(err, experiment.ErrGone) {
			t.Errorf("%s: %s: %v", when, s.Undo, err)
		}
	}
}

// same asks that the world is as it was, at once or soon.
func same(t testing.TB, when, before string, snapshot func() string, within time.Duration) {
	t.Helper()
	after := snapshot()
	for end := time.Now().Add(within); after != before && time.Now().Before(end); after = snapshot() {
		time.Sleep(10 * time.Millisecond)
	}
	if after != before {
		t.Errorf("%s the world is not as it was:\n%s%s", when, only(before, after, "- "), only(after, before, "+ "))
	}
}

// only lists the lines of one that are not in the other.
func only(of, in, sign string) string {
	var b strings.Builder
	there := strings.Split(in, "\n")
	for line := range strings.SplitSeq(of, "\n") {
		if !slices.Contains(there, line) {
			b.WriteString(sign + line + "\n")
		}
	}
	if b.Len() == 0 {
		return sign + "(the same lines)\n"
	}
	return b.String()
}
