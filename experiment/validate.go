package experiment

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

// FieldError says which field of a section is wrong.
type FieldError struct {
	Field string // as the file spells it; "checks/2/name" for one further down
	Err   error
}

// Error implements error.
func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap implements the interface of errors.Is and errors.As.
func (e *FieldError) Unwrap() error { return e.Err }

// Fieldf makes a FieldError.
func Fieldf(field, format string, args ...any) error {
	return &FieldError{Field: field, Err: fmt.Errorf(format, args...)}
}

// maxName is how long a name may be, in bytes.
const maxName = 253

const namePattern = `^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`

var nameForm = regexp.MustCompile(namePattern)

// Validate implements Validator.
func (m Metadata) Validate() error {
	switch {
	case m.Name == "":
		return errors.New("a name is missing")
	case len(m.Name) > maxName:
		return Fieldf("name", "is longer than %d characters", maxName)
	case !nameForm.MatchString(m.Name):
		return Fieldf("name", "%s is not a name (lower-case letters, digits, dots and dashes)", quote(m.Name))
	}
	for _, k := range keys(m.Labels) {
		if err := errors.Join(checkLine("labels", k), checkLine("labels", m.Labels[k])); err != nil {
			return err
		}
	}
	return nil
}

// checkLine refuses what would upset a terminal or a table.
func checkLine(field, text string) error {
	if len(text) > maxName {
		return Fieldf(field, "%s is longer than %d bytes", quote(text), maxName)
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		return Fieldf(field, "%s holds a character that cannot be printed", quote(text))
	}
	return nil
}

// checkName refuses a name that is missing or cannot be printed on a line.
func checkName(name string) error {
	if strings.TrimSpace(name) == "" {
		return errors.New("a name is missing")
	}
	return checkLine("name", name)
}

// Validate implements Validator.
func (s Spec) Validate() error {
	if len(s.Method) == 0 {
		return errors.New("no method: say what is to be done, for example" +
			"\n        method: [{fault: {type: freeze}, target: {type: process, name: web}, for: 10s}]")
	}
	if s.Method[0].Parallel {
		return Fieldf("method/0/parallel", "the first action has none before it to start with")
	}
	for _, name := range keys(s.Parameters) {
		if !parameterForm.MatchString(name) {
			return Fieldf("parameters", "%s is not a name that ${…} can hold (letters, digits, _, - and dots)", quote(name))
		}
	}
	if err := s.labFits(); err != nil {
		return err
	}
	return errors.Join(
		unique("method", s.Method, func(a Action) string { return a.Name }),
		unique("traffic", s.Traffic, func(t Traffic) string { return t.Name }),
		unique("hypothesis/checks", s.Hypothesis.Checks, func(c Check) string { return c.Name }),
		s.checksKnowTheirTraffic(),
	)
}

// labFits refuses targets in a lab where there is none.
func (s Spec) labFits() error {
	if s.Lab != nil {
		return nil
	}
	for i, a := range s.Method {
		named := map[string][]*TargetSpec{"target": {&a.Target}}
		if f, ok := a.Fault.(Beyond); ok {
			named["fault"] = f.Beyond()
		}
		for _, field := range []string{"target", "fault"} {
			for _, t := range named[field] {
				if l, ok := t.Selector.(InLab); ok && l.InLab() {
					return Fieldf(fmt.Sprintf("method/%d/%s", i, field), "target %s is a container of the lab, and the file has none: say lab: {compose: compose.yaml}, or lab: {name: …} for one that stands", t.Type)
				}
			}
		}
	}
	return nil
}

// checkSampled refuses a check that would not be sampled once between the
// first fault and the end of the method. Its defaults must be filled in.
func (s Spec) checkSampled() error {
	lasts := s.faultsLast()
	for i, c := range s.Hypothesis.Checks {
		if lasts >= c.Window+s.Hypothesis.Every {
			continue
		}
		how := fmt.Sprintf("is sampled every %s", s.Hypothesis.Every)
		mend := "for"
		if c.Window > 0 {
			how = fmt.Sprintf("is sampled over %s every %s", c.Window, s.Hypothesis.Every)
			mend = "for, or a shorter window"
		}
		return &placedError{
			jsontext.Pointer(fmt.Sprintf("/spec/hypothesis/checks/%d", i)),
			fmt.Errorf("%s, but the method lasts %s: it would never be measured during the fault (give %s)", how, lasts, mend),
		}
	}
	return nil
}

// faultsLast returns how long the method takes from its first fault on.
// Actions in parallel take as long as the longest of them.
func (s Spec) faultsLast() Duration {
	var total, group Duration
	wait, first := s.Method[0].After, true
	for i, a := range s.Method {
		if i > 0 && !a.Parallel {
			total, group, first = total+group, 0, false
		}
		group = max(group, a.After+a.For)
		if first {
			wait = min(wait, a.After)
		}
	}
	return total + group - wait
}

func (s Spec) checksKnowTheirTraffic() error {
	names := make([]string, 0, len(s.Traffic))
	for _, t := range s.Traffic {
		names = append(names, t.Name)
	}
	for i, c := range s.Hypothesis.Checks {
		if c.Traffic != "" && !slices.Contains(names, c.Traffic) {
			return Fieldf(fmt.Sprintf("hypothesis/checks/%d/traffic", i), "no traffic is named %s%s", quote(c.Traffic), valid("traffic", c.Traffic, names))
		}
	}
	return nil
}

func unique[T any](field string, list []T, name func(T) string) error {
	seen := map[string]bool{}
	for i, v := range list {
		n := name(v)
		if n != "" && seen[n] {
			return Fieldf(fmt.Sprintf("%s/%d/name", field, i), "%s is the name of an earlier one too", quote(n))
		}
		seen[n] = true
	}
	return nil
}

// Validate implements Validator.
func (a Action) Validate() error {
	if err := checkLine("name", a.Name); err != nil {
		return err
	}
	if a.Fault == nil {
		return errors.New("a fault is missing, such as fault: {type: freeze}")
	}
	if a.Target.Selector == nil {
		return errors.New("a target is missing, such as target: {type: process, name: web}")
	}
	if a.OnRestart != "" && a.Instant() {
		return Fieldf("onRestart", "the fault strikes and holds nothing that a restart could end: leave it out")
	}
	if err := a.checkRepeat(); err != nil {
		return err
	}
	switch {
	case a.lasts() > 0:
		return nil
	case a.repeats() != nil:
		return errors.New("for is missing: say how long it is repeated, such as for: 10s")
	case !a.Instant():
		return errors.New("for is missing: say how long the fault is held, such as for: 10s")
	}
	return nil
}

var modes = []string{string(ModeOne), string(ModeAll), string(ModeFixed), string(ModeFixedPercent), string(ModeRandomMaxPercent)}

// Validate implements Validator.
func (t TargetSpec) Validate() error {
	if t.Mode != "" && !slices.Contains(modes, string(t.Mode)) {
		return Fieldf("mode", "unknown mode %s%s", quote(string(t.Mode)), valid("modes", string(t.Mode), modes))
	}
	percent := t.Mode == ModeFixedPercent || t.Mode == ModeRandomMaxPercent
	switch {
	case t.Count < 0:
		return Fieldf("count", "%d is not a number of targets", t.Count)
	case t.Mode == ModeFixed && t.Count == 0:
		return Fieldf("mode", "mode fixed needs a count of 1 or more")
	case t.Mode != ModeFixed && t.Count != 0:
		return Fieldf("count", "goes with mode: fixed only")
	case percent && t.Percent == 0:
		return Fieldf("mode", "mode %s needs a percent above 0", t.Mode)
	case !percent && t.Percent != 0:
		return Fieldf("percent", "goes with mode: fixed-percent or random-max-percent only")
	case t.Mode == ModeAll && t.GroupBy != "":
		return Fieldf("groupBy", "mode all takes all of each group anyway: leave it out")
	}
	return t.GroupBy.check()
}

// Validate implements Validator.
func (b BlastRadius) Validate() error {
	if b.Targets < 0 {
		return Fieldf("targets", "%d is not a number of targets", b.Targets)
	}
	if b.Percent != nil && *b.Percent == 0 {
		return Fieldf("percent", "0 allows no target at all: leave it out, or give more")
	}
	return nil
}

// Validate implements Validator.
func (a Abort) Validate() error {
	if a.After < 0 {
		return Fieldf("after", "%d is not a number of samples", a.After)
	}
	return nil
}
