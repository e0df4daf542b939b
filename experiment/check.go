package experiment

import (
	"errors"
	"slices"
	"strings"
	"time"
)

// Validate implements Validator.
func (h Hypothesis) Validate() error {
	if h.Every != 0 && h.Every < Duration(time.Millisecond) {
		return Fieldf("every", "%s is too often (1ms or more)", h.Every)
	}
	return nil
}

// measures are what a check can measure of traffic.
var measures = []string{"success", "rate", "mean", "p50", "p95", "p99", "max"}

// Validate implements Validator.
func (c Check) Validate() error {
	if err := checkName(c.Name); err != nil {
		return err
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
		return Fieldf("measure", "%s cannot be measured of traffic%s", quote(c.Measure), valid("measures", c.Measure, measures))
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
