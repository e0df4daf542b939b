package experiment

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Duration is a length of time in an experiment file, written as Go writes
// it: 250ms, 10s, 1m30s. It is never negative.
type Duration time.Duration

// D returns d as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String gives the form that UnmarshalText reads.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// longestDuration is more than any run takes, and so short that a sum of
// many still fits.
const longestDuration = 366 * 24 * time.Hour

// What UnmarshalText of Duration and of Rate reads; the schema says so too.
const (
	durationPattern = `^\+?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`
	ratePattern     = `^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?/[smh]$`
)

var (
	durationForm = regexp.MustCompile(durationPattern)
	rateForm     = regexp.MustCompile(ratePattern)
)

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	if strings.HasPrefix(string(b), "-") && durationForm.Match(b[1:]) {
		return fmt.Errorf("%s is negative: a duration runs forward", short(string(b)))
	}
	v, err := time.ParseDuration(string(b))
	if err != nil || !durationForm.Match(b) {
		return fmt.Errorf("%s is not a duration (write it as 250ms, 10s or 1m30s)", quote(string(b)))
	}
	if v > longestDuration {
		return fmt.Errorf("%s is longer than a year", short(string(b)))
	}
	*d = Duration(v)
	return nil
}

// Rate is a number of events in each second, written as 50/s, 3000/m or 10/h.
type Rate float64

// String gives the form that UnmarshalText reads.
func (r Rate) String() string { return strconv.FormatFloat(float64(r), 'g', -1, 64) + "/s" }

// MarshalText implements encoding.TextMarshaler.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Rate) UnmarshalText(b []byte) error {
	wrong := fmt.Errorf("%s is not a rate (write it as 50/s, 3000/m or 10/h)", quote(string(b)))
	if !rateForm.Match(b) {
		return wrong
	}
	count, unit, _ := strings.Cut(string(b), "/")
	n, err := strconv.ParseFloat(count, 64)
	per := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	if err != nil || n/per > 1e9 {
		return wrong
	}
	if n/per == 0 {
		return fmt.Errorf("%s is nothing at all: a rate is above 0", short(string(b)))
	}
	*r = Rate(n / per)
	return nil
}

// Percent is a share from 0 to 100.
type Percent float64

// Validate implements Validator.
func (p Percent) Validate() error {
	if !(p >= 0 && p <= 100) {
		return fmt.Errorf("%v is not a percentage (0 to 100)", float64(p))
	}
	return nil
}

// Bound is one end of what a check tolerates: a number, or a duration, which
// is held in seconds.
type Bound struct {
	Value   float64
	Seconds bool // it was written as a duration
}

// MarshalJSON implements json.Marshaler.
func (b Bound) MarshalJSON() ([]byte, error) {
	if b.Seconds {
		return jsontext.AppendQuote(nil, seconds(b.Value).String())
	}
	return strconv.AppendFloat(nil, b.Value, 'g', -1, 64), nil
}

// seconds is the inverse of time.Duration.Seconds, to the nanosecond.
func seconds(v float64) time.Duration {
	whole, part := math.Modf(v)
	nanos := math.Round(part * 1e9)
	if whole*1e9+nanos >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(whole)*time.Second + time.Duration(nanos)
}

// UnmarshalJSON implements json.Unmarshaler.
func (b *Bound) UnmarshalJSON(data []byte) error {
	switch jsontext.Value(data).Kind() {
	case '0':
		v, err := strconv.ParseFloat(string(data), 64)
		*b = Bound{Value: v}
		return err
	case '"':
		text, err := jsontext.AppendUnquote(nil, data)
		d, parseErr := time.ParseDuration(string(text))
		if err != nil || parseErr != nil || !durationForm.Match(text) {
			return fmt.Errorf("%s is not a bound (a number such as 0.99, or a duration such as 100ms)", quote(string(text)))
		}
		*b = Bound{Value: d.Seconds(), Seconds: true}
		return nil
	}
	return errors.New("want a number such as 0.99, or a duration such as 100ms, not " + kindName(jsontext.Value(data).Kind()))
}
