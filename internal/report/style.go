package report

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Style says what the place is like that text is written to.
type Style struct {
	Width int  // columns; 0 means 100
	Color bool // it understands ECMA-48 colours
	ASCII bool // it may not show anything else
}

// What a text is laid out in.
const (
	defaultWidth   = 100
	narrowestWidth = 40
)

// width returns the columns to keep to.
func (s Style) width() int {
	if s.Width <= 0 {
		return defaultWidth
	}
	return max(s.Width, narrowestWidth)
}

// color is an ECMA-48 rendition (SGR).
type color string

const (
	plain  color = ""
	bold   color = "1"
	dim    color = "2"
	red    color = "31"
	green  color = "32"
	yellow color = "33"
	loud   color = "1;31"
	calm   color = "1;32"
	doubt  color = "1;33"
)

// paint colours s, which is clean already, where colours are asked for.
func (s Style) paint(c color, text string) string {
	if !s.Color || c == plain || strings.TrimSpace(text) == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// inASCII are the signs of this package's own, for those who see no others.
var inASCII = strings.NewReplacer(
	"▁", "_", "▂", ".", "▃", ",", "▄", "-", "▅", "=", "▆", "+", "▇", "*", "█", "#", "×", "x",
	"┊", "|", "·", "-", "→", "->", "≥", ">=", "≤", "<=", "…", "~", "µ", "u", "–", "-",
)

// clean makes text fit to be shown on one line: names come from files and
// processes, and must not move the cursor, change colours or turn the reading
// direction. What cannot be printed is written as Go writes it: \x1b, \u202e.
func (s Style) clean(text string) string {
	if s.ASCII {
		text = inASCII.Replace(text)
	}
	if s.printable(text) {
		return text
	}
	var b strings.Builder
	for rest := text; rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(rest[0])|0x100, 16)[1:])
		case s.shows(r):
			b.WriteRune(r)
		default:
			b.WriteString(escape(r, s.ASCII))
		}
		rest = rest[size:]
	}
	return b.String()
}

func (s Style) printable(text string) bool {
	return utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !s.shows(r) }) < 0
}

func (s Style) shows(r rune) bool {
	return strconv.IsPrint(r) && !(s.ASCII && r >= utf8.RuneSelf)
}

func escape(r rune, ascii bool) string {
	quoted := strconv.QuoteRune(r)
	if ascii {
		quoted = strconv.QuoteRuneToASCII(r)
	}
	return strings.Trim(quoted, "'")
}

// wide are the characters that take two columns: Unicode's East Asian Width
// W and F (UAX #11), by block.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x1100, 0x115f, 1},
		{0x231a, 0x231b, 1},
		{0x2329, 0x232a, 1},
		{0x23e9, 0x23ec, 1},
		{0x23f0, 0x23f3, 3},
		{0x25fd, 0x25fe, 1},
		{0x2614, 0x2615, 1},
		{0x2648, 0x2653, 1},
		{0x267f, 0x2693, 20},
		{0x26a1, 0x26aa, 9},
		{0x26ab, 0x26bd, 18},
		{0x26be, 0x26c4, 6},
		{0x26c5, 0x26ce, 9},
		{0x26d4, 0x26ea, 22},
		{0x26f2, 0x26f3, 1},
		{0x26f5, 0x26fa, 5},
		{0x26fd, 0x2705, 8},
		{0x270a, 0x270b, 1},
		{0x2728, 0x274c, 36},
		{0x274e, 0x2753, 5},
		{0x2754, 0x2755, 1},
		{0x2757, 0x2795, 62},
		{0x2796, 0x2797, 1},
		{0x27b0, 0x27bf, 15},
		{0x2b1b, 0x2b1c, 1},
		{0x2b50, 0x2b55, 5},
		{0x2e80, 0x303e, 1},
		{0x3041, 0x4dbf, 1},
		{0x4e00, 0xa4cf, 1},
		{0xa960, 0xa97c, 1},
		{0xac00, 0xd7a3, 1},
		{0xf900, 0xfaff, 1},
		{0xfe10, 0xfe19, 1},
		{0xfe30, 0xfe6f, 1},
		{0xff01, 0xff60, 1},
		{0xffe0, 0xffe6, 1},
	},
	R32: []unicode.Range32{
		{0x16fe0, 0x18aff, 1},
		{0x1b000, 0x1b2ff, 1},
		{0x1f004, 0x1f0cf, 0xcb},
		{0x1f18e, 0x1f18e, 1},
		{0x1f191, 0x1f19a, 1},
		{0x1f200, 0x1f320, 1},
		{0x1f32d, 0x1f64f, 1},
		{0x1f680, 0x1f6fc, 1},
		{0x1f7e0, 0x1f7eb, 1},
		{0x1f90c, 0x1f9ff, 1},
		{0x1fa70, 0x1faff, 1},
		{0x20000, 0x3fffd, 1},
	},
}

// columns returns how many columns clean text takes.
func columns(text string) int {
	n := 0
	for _, r := range text {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}

// fit cuts clean text to n columns; an ellipsis says so.
func (s Style) fit(text string, n int) string {
	if columns(text) <= n {
		return text
	}
	mark := s.clean("…")
	room := max(0, n-columns(mark))
	for i, r := range text {
		if room -= runeColumns(r); room < 0 {
			return text[:i] + mark
		}
	}
	return text
}

// left pads text with spaces to n columns.
func left(text string, n int) string { return text + strings.Repeat(" ", max(0, n-columns(text))) }

// right pads text with spaces in front to n columns.
func right(text string, n int) string { return strings.Repeat(" ", max(0, n-columns(text))) + text }

// wrap breaks clean text into lines of at most n columns, between words; a
// word that is longer stands alone. What fits stays as it is.
func wrap(text string, n int) []string {
	if columns(text) <= n {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && columns(line)+1+columns(word) > n {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
