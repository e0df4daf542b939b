package report

import (
	"math"
	"strconv"
	"strings"
)

// humanValue writes a value of a check: 99.2 %, 31 ms, 50/s, 64 KiB or
// 2,981, as its unit asks.
func humanValue(v float64, unit string) string {
	if unit == "ratio" {
		return decimal(floorShare(100*v)) + " %"
	}
	return withUnit(v, unit, decimal)
}

// humanBound writes a bound with all its digits: 99.95 % is not 99.9 %.
func humanBound(v float64, unit string) string {
	if unit == "ratio" {
		return exact(100*v) + " %"
	}
	return withUnit(v, unit, exact)
}

// withUnit writes v with its unit, its digits as write does.
func withUnit(v float64, unit string, write func(float64) string) string {
	switch {
	case unit == "s":
		return timeWith(v, write)
	case unit == "B":
		return bytesWith(v, write)
	case unit == "" || strings.HasPrefix(unit, "/"):
		return write(v) + unit
	}
	return write(v) + " " + unit
}

// floorShare keeps a share below 100 % from being written as 100 %.
func floorShare(percent float64) float64 {
	if percent < 100 && percent > 99.9 {
		return 99.9
	}
	return percent
}

// humanSeconds writes a time in seconds: 0.8 ms, 31 ms, 1.31 s, 2m 5s.
func humanSeconds(s float64) string { return timeWith(s, decimal) }

func timeWith(s float64, write func(float64) string) string {
	switch abs := math.Abs(s); {
	case math.IsInf(s, 0) || math.IsNaN(s):
		return strconv.FormatFloat(s, 'g', -1, 64)
	case s == 0:
		return "0 s"
	case abs < 1e-4:
		return write(s*1e6) + " µs"
	case abs < 0.9995:
		return write(s*1e3) + " ms"
	case abs < 59.995:
		return write(s) + " s"
	}
	return long(s)
}

// long writes a time of a minute or more.
func long(s float64) string {
	whole := int64(math.Round(math.Abs(s)))
	sign := ""
	if s < 0 {
		sign = "-"
	}
	parts := []string{}
	for _, u := range []struct {
		per  int64
		name string
	}{{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}} {
		if n := whole / u.per; n > 0 && len(parts) < 2 {
			parts = append(parts, strconv.FormatInt(n, 10)+u.name)
			whole -= n * u.per
		} else if len(parts) > 0 {
			break
		}
	}
	return sign + strings.Join(parts, " ")
}

// bytesWith writes a size in binary units.
func bytesWith(b float64, write func(float64) string) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	i := 0
	for ; math.Abs(b) >= 1024 && i < len(units)-1; i++ {
		b /= 1024
	}
	return write(b) + " " + units[i]
}

// decimal writes a number as a person reads it: two or three digits that
// matter, and
// whole thousands set apart.
func decimal(v float64) string {
	abs := math.Abs(v)
	switch {
	case math.IsInf(v, 0) || math.IsNaN(v) || abs >= 1e15 || abs > 0 && abs < 1e-4:
		return strconv.FormatFloat(v, 'g', 3, 64)
	case abs >= 100:
		return thousands(strconv.FormatFloat(v, 'f', 0, 64))
	}
	digits := 2
	if abs >= 10 {
		digits = 1
	}
	for limit := 0.1; abs < limit && abs > 0; limit /= 10 {
		digits++
	}
	s := strconv.FormatFloat(v, 'f', min(digits, 6), 64)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// exact writes a number to the sixth decimal, so that what a computer adds
// beyond is not seen.
func exact(v float64) string {
	if abs := math.Abs(v); !(abs < 1e9) || abs > 0 && abs < 1e-4 {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64), ".")
	return thousands(whole) + prefixed(".", fraction)
}

// thousands sets commas between the thousands of a whole number.
func thousands(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// count writes a whole number.
func count(n int) string { return thousands(strconv.Itoa(n)) }

// plural writes n and the word for so many.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// prefixed returns s after prefix, or nothing where s is empty.
func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// parens returns s in parentheses, or nothing where s is empty.
func parens(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

// orElse returns s, or other where s is empty.
func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
