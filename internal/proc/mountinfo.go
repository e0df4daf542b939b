package proc

import (
	"fmt"
	"strconv"
	"strings"
)

// mount is one line of proc_pid_mountinfo(5).
type mount struct{ device, root, point, options, optional, kind, source, super string }

func parseMount(line string) (mount, error) {
	left, right, ok := strings.Cut(line, " - ")
	a, b := strings.Fields(left), strings.Fields(right)
	if !ok || len(a) < 6 || len(b) < 2 {
		return mount{}, fmt.Errorf("read mountinfo: %q is no line of it", line)
	}
	m := mount{
		device: a[2], root: unescape(a[3]), point: unescape(a[4]), options: a[5],
		optional: strings.Join(a[6:], " "), kind: b[0], source: b[1],
	}
	if len(b) > 2 {
		m.super = b[len(b)-1]
	}
	if len(b) == 2 { // an empty source leaves two spaces
		m.source, m.super = "", b[1]
	}
	return m, nil
}

// unescape undoes the \040 that mountinfo writes for spaces and the like.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
