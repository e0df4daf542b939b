package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a host may have none

	"github.com/simianhq/simian/experiment"
)

// clock is the form of a time of day.
const clock = "15:04"

// weekdays are days as files write them, from Sunday as time.Weekday counts.
func weekdays() []string { return []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} }

// Validate implements experiment.Validator.
func (h Hours) Validate() error {
	for _, f := range []struct{ field, text string }{{"from", h.From}, {"to", h.To}} {
		if _, err := time.Parse(clock, f.text); err != nil || len(f.text) != len(clock) {
			return experiment.Fieldf(f.field, "%q is not a time of day, such as 09:00", f.text)
		}
	}
	if h.From == h.To {
		return experiment.Fieldf("to", "is the same as from: leave hours out to allow all of the day")
	}
	if h.TimeZone == "" {
		return experiment.Fieldf("timeZone", "is missing: say whose hours these are, such as Europe/Brussels or UTC")
	}
	if _, err := time.LoadLocation(h.TimeZone); err != nil || h.TimeZone == "Local" {
		return experiment.Fieldf("timeZone", "%q is not a time zone, such as Europe/Brussels or UTC", h.TimeZone)
	}
	for i, day := range h.Days {
		if !slices.Contains(weekdays(), day) {
			return experiment.Fieldf(fmt.Sprintf("days/%d", i), "%q is not a day: %s", day, strings.Join(weekdays(), " "))
		}
	}
	return nil
}

// location is where the hours are; Validate has seen that there is such a zone.
func (h *Hours) location() *time.Location {
	at, err := time.LoadLocation(h.TimeZone)
	if err != nil {
		return time.UTC
	}
	return at
}

// within tells whether now is one of the hours. Those over midnight are of the
// day they begin on.
func (h *Hours) within(now time.Time) bool {
	now = now.In(h.location())
	at, day := now.Format(clock), now
	in := at >= h.From && at < h.To
	if h.To < h.From {
		in = at >= h.From || at < h.To
		if at < h.To {
			day = now.AddDate(0, 0, -1)
		}
	}
	return in && (len(h.Days) == 0 || slices.Contains(h.Days, weekdays()[day.Weekday()]))
}

// String gives "22:00 to 06:00 Europe/Brussels, mon tue".
func (h *Hours) String() string {
	if h == nil {
		return "any hour"
	}
	text := h.From + " to " + h.To + " " + h.TimeZone
	if len(h.Days) > 0 {
		text += ", " + strings.Join(h.Days, " ")
	}
	return text
}
