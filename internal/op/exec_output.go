package op

import (
	"bytes"
	"strings"
	"unicode"
)

// tail keeps the last of what a command writes.
type tail struct{ last bytes.Buffer }

// How much is kept, and told.
const (
	mostOutput = 4 << 10 // bytes
	mostLines  = 5
	mostTold   = 512 // bytes
)

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.last.Write(b)
	if more := t.last.Len() - mostOutput; more > 0 {
		t.last.Next(more)
	}
	return len(b), nil
}

// String returns the last lines in one, without what can't be printed.
func (t *tail) String() string {
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(t.last.String(), "?")), "\n")
	said := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.Join(lines[max(0, len(lines)-mostLines):], " | "))
	if len(said) > mostTold {
		said = "…" + strings.ToValidUTF8(said[len(said)-mostTold:], "")
	}
	return strings.TrimSpace(said)
}
