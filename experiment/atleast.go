package experiment

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// AtLeast is how many targets of a workload stay untouched: a number, or a
// percentage of those that run, written with its sign: 2 or 50%.
type AtLeast struct {
	Count   int
	Percent float64 // 0 to 100; 0 where it is a number
}

const sharePattern = `^[0-9]+(\.[0-9]+)?%$`

var shareForm = regexp.MustCompile(sharePattern)

// Of returns how many of n targets that is. A percentage is rounded up, as
// Kubernetes does with minAvailable.
func (a AtLeast) Of(n int) int {
	if a.Percent > 0 {
		return int(math.Ceil(a.Percent * float64(n) / 100))
	}
	return a.Count
}

// String gives the form that a file has.
func (a AtLeast) String() string {
	if a.Percent > 0 {
		return strconv.FormatFloat(a.Percent, 'f', -1, 64) + "%"
	}
	return strconv.Itoa(a.Count)
}

// TypeName implements Typed.
func (a AtLeast) TypeName() string { return "number or percent" }

// Validate implements Validator.
func (a AtLeast) Validate() error {
	switch {
	case a.Count < 0:
		return fmt.Errorf("%d is not a number of targets", a.Count)
	case a == AtLeast{}:
		return errors.New("0 keeps none: leave it out, or give more")
	case a.Percent > 100:
		return fmt.Errorf("%v%% is more than all: give less than 100%%", a.Percent)
	case a.Percent == 100:
		return errors.New("100% would leave no target at all: give less")
	}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (a AtLeast) MarshalJSON() ([]byte, error) {
	if a.Percent > 0 {
		return jsontext.AppendQuote(nil, a.String())
	}
	return strconv.AppendInt(nil, int64(a.Count), 10), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (a *AtLeast) UnmarshalJSON(data []byte) error {
	switch jsontext.Value(data).Kind() {
	case '0':
		n, err := strconv.ParseInt(string(data), 10, 32)
		if err != nil {
			return fmt.Errorf("%s is not a whole number (a percentage has its sign: 50%%)", short(string(data)))
		}
		*a = AtLeast{Count: int(n)}
		return nil
	case '"':
		text, err := jsontext.AppendUnquote(nil, data)
		if err != nil || !shareForm.Match(text) {
			return fmt.Errorf("%s is neither a number of targets nor a percentage such as 50%%", quote(string(text)))
		}
		p, err := strconv.ParseFloat(strings.TrimSuffix(string(text), "%"), 64)
		*a = AtLeast{Percent: p}
		return err
	}
	return errors.New("want a number such as 2, or a percentage such as 50%, not " + kindName(jsontext.Value(data).Kind()))
}
