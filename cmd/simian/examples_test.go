package main

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/report"
)

// TestExamplesLoad loads every example.
func TestExamplesLoad(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../examples/*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no examples", err)
	}
	loader := newApp(nil, nil, nil).loader()
	for _, file := range files {
		if _, err := loader.LoadFile(file, nil); err != nil {
			t.Error(err)
		}
	}
}

// TestQuickstart plans and runs the experiments of the quickstart on its
// service, and wants the verdicts that its README promises.
func TestQuickstart(t *testing.T) {
	port := quickstart(t)
	l := newLab(t)
	for name, want := range map[string]experiment.Verdict{
		"worker-killed":  experiment.Pass,
		"service-frozen": experiment.Fail,
		"hits-nothing":   experiment.NotInjected,
	} {
		t.Run(name, func(t *testing.T) {
			l.t = t
			file := "../../examples/quickstart/" + name + ".yaml"
			l.expect(0, "plan", "--set", "port="+port, file)
			o := l.simian("run", "--set", "port="+port, "-o", "json", file)
			var r report.Result
			if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
				t.Fatalf("%v\n%s%s", err, o.stdout, o.stderr)
			}
			if r.Verdict != want || o.code != want.ExitCode() {
				t.Errorf("%s, exit %d, want %s\n%s%s", r.Verdict, o.code, want, o.stdout, o.stderr)
			}
			l.clean()
		})
	}
	l.t = t
}

// quickstart builds the service of the quickstart and starts it, and returns
// its port.
func quickstart(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "quickstart")
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Dir = "../../examples/quickstart"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	c := exec.Command(bin, "serve", "--listen", "127.0.0.1:"+port)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	said, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Signal(os.Interrupt); _ = c.Process.Kill(); _ = c.Wait() })
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "worker 2 started") {
			go func() {
				for lines.Scan() {
				}
			}()
			return port
		}
	}
	t.Fatal("the service did not start")
	return ""
}
