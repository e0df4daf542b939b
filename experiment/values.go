package experiment

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
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

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration (write it as 250ms, 10s or 1m30s)", b)
	}
	if v < 0 {
		return fmt.Errorf("%s is negative: a duration runs forward", b)
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
	wrong := fmt.Errorf("%q is not a rate (write it as 50/s, 3000/m or 10/h)", b)
	count, unit, ok := strings.Cut(string(b), "/")
	per, known := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	n, err := strconv.ParseFloat(count, 64)
	if !ok || !known || err != nil || !(n > 0) || n > 1e9 {
		return wrong
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
		return strconv.AppendQuote(nil, time.Duration(b.Value*1e9+0.5).String()), nil
	}
	return strconv.AppendFloat(nil, b.Value, 'g', -1, 64), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (b *Bound) UnmarshalJSON(data []byte) error {
	wrong := fmt.Errorf("%s is not a bound (a number such as 0.99, or a duration such as 100ms)", data)
	if len(data) == 0 {
		return errors.New("a bound is missing")
	}
	if data[0] != '"' {
		v, err := strconv.ParseFloat(string(data), 64)
		if err != nil {
			return wrong
		}
		*b = Bound{Value: v}
		return nil
	}
	s, err := strconv.Unquote(string(data))
	if err != nil {
		return wrong
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return wrong
	}
	*b = Bound{Value: d.Seconds(), Seconds: true}
	return nil
}
