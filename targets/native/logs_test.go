package native

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

func TestLog(t *testing.T) {
	t.Parallel()
	long := longestLine + 100
	s := up(t, newService(t, "web", "both", "16484"), newService(t, "exact", "both", "16384"), newService(t, "silent", "sleep"))
	for name, want := range map[string][]string{
		"web-1":   {"stdout: to stdout", "stdout: " + strings.Repeat("x", longestLine), "stdout: " + strings.Repeat("x", long-longestLine), "stdout: without an end"},
		"exact-1": {"stdout: to stdout", "stdout: " + strings.Repeat("x", longestLine), "stdout: without an end"},
	} {
		s.until(name, "ends", func(b Box) bool { return b.State == experiment.ContainerExited })
		got := s.log(name)
		if !slices.Contains(got, "stderr: to stderr") {
			t.Errorf("%s: nothing of stderr", name)
		}
		got = slices.DeleteFunc(got, func(line string) bool { return strings.HasPrefix(line, "stderr") })
		if !slices.Equal(got, want) {
			t.Errorf("%s has %d lines: %.60q", name, len(got), got)
		}
	}
	logs, err := Logs(s.state + "/logs/" + string(s.run))
	if err != nil || len(logs) != 3 {
		t.Errorf("%v, %v", logs, err)
	}
	s.down()
	if got := s.log("web-1"); len(got) != 5 {
		t.Errorf("the log went with the lab: %.60q", got)
	}
}

// TestLogOfMuch has a container write more than its pipe holds: it is not held
// up, and the log is rotated.
func TestLogOfMuch(t *testing.T) {
	t.Parallel()
	s := up(t, newService(t, "web", "flood", "12"))
	s.said("web-1", "stdout: done")
	if n := len(s.log("web-1")); n != 12<<10+1 {
		t.Errorf("%d lines", n)
	}
	parts, err := os.ReadDir(s.state + "/logs/" + string(s.run))
	must(t, err)
	if logs, err := Logs(s.state + "/logs/" + string(s.run)); err != nil || len(logs) != 1 || len(parts) != 2 {
		t.Errorf("%d parts of the logs of %v, %v", len(parts), logs, err)
	}
}

// TestLogThatCannotBeWritten does not hold up the container either.
func TestLogThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	s := up(t, newService(t, "web", "flood", "0"))
	s.said("web-1", "stdout: done")
	must(t, s.byName["web-1"].log.Close())
	must(t, os.RemoveAll(s.state+"/logs"))
	must(t, os.WriteFile(s.state+"/logs", nil, 0o600)) // no folder can be made here
	c := s.byName["web-1"]
	out, err := c.log.open()
	must(t, err)
	for range 1000 {
		if _, err := out.stdout.WriteString(strings.Repeat("z", 1000) + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	out.Close()
	<-out.drained
	must(t, os.Remove(s.state+"/logs"))
}

// TestLogOverRestarts goes on where it was.
func TestLogOverRestarts(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "gentle")
	web.Restart = Restart{Policy: "always", Delay: 1}
	s := up(t, web)
	for n := range 3 {
		s.until("web", "runs", func(b Box) bool { return b.Starts == n+1 && b.Process.PID != 0 })
		eventually(t, func() string {
			if strings.Count(strings.Join(s.log("web-1"), "\n"), "ready") == n+1 {
				return ""
			}
			return "it is not ready"
		})
		must(t, unix.Kill(s.box("web").Process.PID, unix.SIGTERM))
		s.until("web", "is started again", func(b Box) bool { return b.Starts == n+2 })
	}
	got := s.log("web-1")[:6]
	if want := slices.Repeat([]string{"stdout: ready", "stdout: ended by terminated"}, 3); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
