package probe

import "strings"

// head keeps the first max bytes written to it, and takes the rest for
// nothing.
type head struct {
	max  int
	kept []byte
	over bool // there was more
}

func (h *head) Write(p []byte) (int, error) {
	room := min(len(p), h.max-len(h.kept))
	h.kept = append(h.kept, p[:room]...)
	h.over = h.over || room < len(p)
	return len(p), nil
}

// tail keeps the last max bytes written to it.
type tail struct {
	max  int
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if more := len(t.kept) - t.max; more > 0 {
		t.kept = append(t.kept[:0], t.kept[more:]...)
	}
	return len(p), nil
}

// lastLine returns the last line that says something, or "".
func (t *tail) lastLine() string {
	text := strings.TrimSpace(string(t.kept))
	return shorten(text[strings.LastIndexByte(text, '\n')+1:])
}
