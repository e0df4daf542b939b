package box

import "fmt"

// ExecError says that a container's command could not be executed. It carries
// the exit code that a shell gives: 127 where it isn't there, 126 where it
// can't be executed.
type ExecError struct {
	Code int
	Text string // such as `exec: "x": not found in $PATH`
}

func (e *ExecError) Error() string { return e.Text }

// UserError says that a container's own files do not know its user or group.
type UserError struct{ What, Name, File string }

func (e *UserError) Error() string {
	return fmt.Sprintf("%s %q is not in the container's %s", e.What, e.Name, e.File)
}
