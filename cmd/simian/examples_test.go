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
	for _, kind := range []string{"kubernetes", "docker"} {
		more, err := filepath.Glob("../../examples/shop/" + kind + "/*.yaml")
		if err != nil || len(more) == 0 {
			t.Fatal("no examples of "+kind, err)
		}
		files = append(files, more...)
	}
	loader := newApp(nil, nil, nil).loader()
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), "compose.") || filepath.Base(file) == "shop.yaml" { // others read them
			continue
		}
		var set map[string]string
		if strings.HasSuffix(file, "docker/billing-clock.yaml") {
			set = map[string]string{"billing": "172.18.0.7:8080"}
		}
		if _, err := loader.LoadFile(file, set); err != nil {
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
			l.verdict(want, "--set", "port="+port, file)
			l.clean()
		})
	}
	l.t = t
}

// TestShop launches the shop for each of its experiments, and wants the
// verdicts that docs/shop.md promises.
func TestShop(t *testing.T) {
	needRoot(t)
	build := exec.Command("sh", "../../examples/shop/build.sh")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv("SHOP_PORT", freePort(t))
	l := newLab(t)
	for _, c := range []struct {
		name string
		want experiment.Verdict
	}{
		{"recommendations-down", experiment.Pass},
		{"recommendations-down-no-fallback", experiment.Fail},
		{"catalog-frozen", experiment.Pass},
		{"bus-restart", experiment.Pass},
		{"recommendations-slow", experiment.Pass},
		{"catalog-slow", experiment.Fail},
		{"bus-lossy", experiment.Pass},
		{"orders-partitioned", experiment.Pass},
		{"bus-stopped", experiment.Pass},
		{"billing-disk-full", experiment.Pass},
		{"billing-clock", experiment.Fail},
		{"catalog-unnamed", experiment.Pass},
		{"catalog-starved", experiment.Pass},
		{"orders-starved", experiment.Fail},
		{"recommendations-error", experiment.Pass},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.t = t
			file := "../../examples/shop/" + c.name + ".yaml"
			l.expect(0, "plan", file)
			l.verdict(c.want, file)
			l.clean()
		})
	}
	l.t = t
}

// verdict runs a file, and wants this verdict and its exit code.
func (l *lab) verdict(want experiment.Verdict, args ...string) {
	l.t.Helper()
	o := l.simian(append([]string{"run", "-o", "json"}, args...)...)
	var r report.Result
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		l.t.Fatalf("%v\n%s%s", err, o.stdout, o.stderr)
	}
	if r.Verdict != want || o.code != want.ExitCode() {
		l.t.Errorf("%s, exit %d, want %s\n%s%s", r.Verdict, o.code, want, o.stdout, o.stderr)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	_, port, _ := net.SplitHostPort(free.Addr().String())
	return port
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
	port := freePort(t)
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
