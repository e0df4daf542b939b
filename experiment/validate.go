package experiment

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
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

var nameForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// Validate implements Validator.
func (m Metadata) Validate() error {
	if m.Name == "" {
		return errors.New("a name is missing")
	}
	if !nameForm.MatchString(m.Name) {
		return Fieldf("name", "%q is not a name (lower-case letters, digits, dots and dashes)", m.Name)
	}
	return nil
}

// Validate implements Validator.
func (s Spec) Validate() error {
	if len(s.Method) == 0 {
		return errors.New("no method: say what is to be done, for example\n        method: [{fault: {type: kill}, target: {type: process, name: web}, irreversible: true}]")
	}
	if s.Method[0].Parallel {
		return Fieldf("method/0/parallel", "the first action has none before it to start with")
	}
	return errors.Join(
		unique("method", s.Method, func(a Action) string { return a.Name }),
		unique("traffic", s.Traffic, func(t Traffic) string { return t.Name }),
		unique("hypothesis/checks", s.Hypothesis.Checks, func(c Check) string { return c.Name }),
		s.checksKnowTheirTraffic(),
	)
}

func (s Spec) checksKnowTheirTraffic() error {
	names := make([]string, 0, len(s.Traffic))
	for _, t := range s.Traffic {
		names = append(names, t.Name)
	}
	for i, c := range s.Hypothesis.Checks {
		if c.Traffic != "" && !slices.Contains(names, c.Traffic) {
			return Fieldf(fmt.Sprintf("hypothesis/checks/%d/traffic", i), "no traffic is named %q%s", c.Traffic, valid("traffic", c.Traffic, names))
		}
	}
	return nil
}

func unique[T any](field string, list []T, name func(T) string) error {
	seen := map[string]bool{}
	for i, v := range list {
		n := name(v)
		if n != "" && seen[n] {
			return Fieldf(fmt.Sprintf("%s/%d/name", field, i), "%q is the name of an earlier one too", n)
		}
		seen[n] = true
	}
	return nil
}

// Validate implements Validator.
func (t Traffic) Validate() error {
	if t.Name == "" {
		return errors.New("a name is missing")
	}
	if t.Rate == 0 {
		return errors.New("a rate is missing, such as rate: 50/s")
	}
	return CheckURL("url", t.URL)
}

// CheckURL refuses what is not an absolute http or https URL.
func CheckURL(field, raw string) error {
	if raw == "" {
		return errors.New("a " + field + " is missing")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return Fieldf(field, "%q is not a URL", raw)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return Fieldf(field, "%q is not an http or https URL with a host", raw)
	}
	return nil
}

// Measures are what a check can measure of traffic.
var measures = []string{"success", "rate", "mean", "p50", "p95", "p99", "max"}

// Validate implements Validator.
func (c Check) Validate() error {
	if c.Name == "" {
		return errors.New("a name is missing")
	}
	if err := c.source(); err != nil {
		return err
	}
	return c.bounds()
}

func (c Check) source() error {
	switch {
	case c.Traffic == "" && c.Probe == nil:
		return errors.New("measures nothing: give a probe, or traffic and measure")
	case c.Traffic != "" && c.Probe != nil:
		return Fieldf("probe", "a check measures a probe or traffic, not both")
	case c.Probe != nil && c.Measure != "":
		return Fieldf("measure", "is of traffic only; a probe measures one thing")
	case c.Probe != nil && c.Window != 0:
		return Fieldf("window", "is of traffic only; a probe measures a moment")
	case c.Traffic != "" && c.Measure == "":
		return errors.New("measure is missing: one of " + strings.Join(measures, ", "))
	case c.Traffic != "" && !slices.Contains(measures, c.Measure):
		return Fieldf("measure", "%q cannot be measured of traffic%s", c.Measure, valid("measures", c.Measure, measures))
	}
	return nil
}

func (c Check) bounds() error {
	if c.Min == nil && c.Max == nil {
		return errors.New("neither min nor max: nothing could make it fail")
	}
	if c.Min != nil && c.Max != nil && c.Min.Value > c.Max.Value {
		return Fieldf("min", "min %s is above max %s: nothing could make it hold", c.Min.text(), c.Max.text())
	}
	for _, b := range []struct {
		field string
		bound *Bound
	}{{"min", c.Min}, {"max", c.Max}} {
		if b.bound != nil && b.bound.Seconds && c.Unit() != "s" {
			return Fieldf(b.field, "%s is a duration, but this check measures no time", b.bound.text())
		}
	}
	if c.Weight != nil && !(*c.Weight > 0 && *c.Weight <= 1e6) {
		return Fieldf("weight", "%v is not a weight (above 0)", *c.Weight)
	}
	return nil
}

func (b Bound) text() string {
	s, _ := b.MarshalJSON()
	return strings.Trim(string(s), `"`)
}

// Unit gives the unit of what the check measures: "s", "ratio", "/s" or "".
func (c Check) Unit() string {
	switch c.Measure {
	case "success":
		return "ratio"
	case "rate":
		return "/s"
	case "":
		if m, ok := c.Probe.(Measured); ok {
			return m.Unit()
		}
		return ""
	}
	return "s"
}

// Holds tells whether value keeps the bounds.
func (c Check) Holds(value float64) bool {
	if value != value {
		return false
	}
	return (c.Min == nil || value >= c.Min.Value) && (c.Max == nil || value <= c.Max.Value)
}

// Validate implements Validator.
func (a Action) Validate() error {
	if a.Fault == nil {
		return errors.New("a fault is missing, such as fault: {type: freeze}")
	}
	if a.Target.Selector == nil {
		return errors.New("a target is missing, such as target: {type: process, name: web}")
	}
	if a.For > 0 {
		return nil
	}
	if r, ok := a.Fault.(Repeater); ok && r.Interval() > 0 {
		return errors.New("for is missing: say how long it is repeated, such as for: 10s")
	}
	if i, ok := a.Fault.(Instant); !ok || !i.Instant() {
		return errors.New("for is missing: say how long the fault is held, such as for: 10s")
	}
	return nil
}

// Validate implements Validator.
func (t TargetSpec) Validate() error {
	modes := []string{string(ModeOne), string(ModeAll), string(ModeFixed), string(ModeFixedPercent), string(ModeRandomMaxPercent)}
	if t.Mode != "" && !slices.Contains(modes, string(t.Mode)) {
		return Fieldf("mode", "unknown mode %q%s", t.Mode, valid("modes", string(t.Mode), modes))
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
	}
	return nil
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
