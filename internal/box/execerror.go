package box

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// execError says in a shell's words why the command could not be executed. The
// first stage waits meanwhile, so its root can be looked at.
func (b *birth) execError(errno unix.Errno) error {
	name := b.args[0]
	say := func(code int, why string) error {
		return &ExecError{code, fmt.Sprintf("exec: %q: %s", name, why)}
	}
	if !strings.Contains(name, "/") && errno == unix.ENOENT {
		return say(127, "not found in $PATH")
	}
	switch errno {
	case unix.ENOENT:
		if interpreter := b.interpreter(name); interpreter != "" {
			return say(126, interpreter+": bad interpreter: no such file or directory")
		}
		return say(127, "no such file or directory")
	case unix.ENOTDIR:
		return say(127, "not a directory")
	case unix.EACCES:
		if b.isDir(name) {
			return say(126, "is a directory")
		}
		return say(126, "permission denied")
	case unix.ENOEXEC:
		return say(126, "exec format error (is it of another architecture, or a script without #! line?)")
	}
	return say(126, errno.Error())
}

// path returns a command's path from the container's root.
func (b *birth) path(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", b.p.id.PID))
	if err != nil {
		return name
	}
	return dir + "/" + name
}

func (b *birth) isDir(name string) bool {
	_, err := rootOf(b.p.id.PID)(b.path(name))
	return errors.Is(err, errFolder)
}

// interpreter returns what a command that is there needs, and is missing: what
// its #! line names, or else the dynamic loader.
func (b *birth) interpreter(name string) string {
	file, err := rootOf(b.p.id.PID)(b.path(name))
	if err != nil {
		return ""
	}
	defer file.Close()
	head := make([]byte, 256)
	n, _ := io.ReadFull(file, head)
	line, _, _ := strings.Cut(string(head[:n]), "\n")
	if script, ok := strings.CutPrefix(line, "#!"); ok {
		if words := strings.Fields(script); len(words) > 0 {
			return words[0]
		}
	}
	return "its dynamic loader"
}
