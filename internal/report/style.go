package report

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
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
	}
	switch width.LookupRune(r).Kind() { // UAX #11
	case width.EastAsianWide, width.EastAsianFullwidth:
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
