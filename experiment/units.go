package experiment

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Bitrate is how fast a link is, in bits per second, written with tc's units:
// 800kbit, 10mbit, 1gbit, each a thousand of the one before (tc(8)).
type Bitrate float64

const (
	bitratePattern = `^[0-9]+(\.[0-9]+)?(bit|kbit|mbit|gbit)$`
	sizePattern    = `^[0-9]+(\.[0-9]+)?(B|KiB|MiB|GiB)$`
)

var (
	bitrateForm = regexp.MustCompile(bitratePattern)
	sizeForm    = regexp.MustCompile(sizePattern)
)

// unit is a word and what it stands for.
type unit struct {
	word string
	of   float64
}

var (
	bitrateUnits = [...]unit{{"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}}
	sizeUnits    = [...]unit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
)

// String gives the form that UnmarshalText reads.
func (r Bitrate) String() string { return inUnits(float64(r), bitrateUnits[:]) }

// MarshalText implements encoding.TextMarshaler.
func (r Bitrate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Bitrate) UnmarshalText(b []byte) error {
	v, ok := fromUnits(string(b), bitrateForm, bitrateUnits[:])
	v = math.Round(v) // whole bits, as String writes
	switch {
	case !ok:
		return fmt.Errorf("%s is not a bit rate (write it as 800kbit, 10mbit or 1gbit)", quote(string(b)))
	case v < 1:
		return fmt.Errorf("%s lets nothing through: a bit rate is 1bit or more", short(string(b)))
	case v > 1e12:
		return fmt.Errorf("%s is more than 1000gbit", short(string(b)))
	}
	*r = Bitrate(v)
	return nil
}

// Size is a number of bytes, written as 512B, 64KiB, 8MiB or 1GiB.
type Size int64

// String gives the form that UnmarshalText reads.
func (s Size) String() string { return inUnits(float64(s), sizeUnits[:]) }

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(b []byte) error {
	v, ok := fromUnits(string(b), sizeForm, sizeUnits[:])
	if !ok {
		return fmt.Errorf("%s is not a size (write it as 512B, 64KiB or 8MiB)", quote(string(b)))
	}
	if v > 1<<50 {
		return fmt.Errorf("%s is more than 1024 TiB", short(string(b)))
	}
	*s = Size(v)
	return nil
}

// fromUnits reads a number with a unit.
func fromUnits(text string, form *regexp.Regexp, units []unit) (float64, bool) {
	if !form.MatchString(text) {
		return 0, false
	}
	for _, u := range units {
		if number, ok := strings.CutSuffix(text, u.word); ok {
			v, err := strconv.ParseFloat(number, 64)
			return v * u.of, err == nil
		}
	}
	return 0, false
}

// inUnits writes v with the largest unit that leaves it whole, to the
// smallest one's whole number.
func inUnits(v float64, units []unit) string {
	whole := int64(v)
	for _, u := range units {
		if whole != 0 && whole%int64(u.of) == 0 {
			return strconv.FormatInt(whole/int64(u.of), 10) + u.word
		}
	}
	return strconv.FormatInt(whole, 10) + units[len(units)-1].word
}
