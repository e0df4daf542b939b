package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// The test binary is started again as another user, who plans: planEnv holds
// the fault and the pid.
const planEnv = "SIMIAN_TEST_PLAN"

func TestMain(m *testing.M) {
	if what := os.Getenv(planEnv); what != "" {
		fmt.Println(planFor(strings.Fields(what)))
		os.Exit(0)
	}
	if pid := os.Getenv(throttleEnv); pid != "" {
		fmt.Println(denyAndHold(pid))
		os.Exit(1)
	}
	if os.Getenv(pageEnv) != "" {
		if err := touchPage(); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil { // package net asks once what there is of IPv6: here, and not in a namespace that has nothing yet
		_ = l.Close()
	}
	os.Exit(m.Run())
}

// planFor says in one line what came of planning a fault: "permission: …"
// where that was denied.
func planFor(what []string) string {
	pid, err := strconv.Atoi(what[1])
	if err != nil {
		return err.Error()
	}
	target, err := host.Target(pid)
	if err != nil {
		return err.Error()
	}
	target.Name = "web"
	fault := All(host)[what[0]]()
	if f, ok := fault.(*Freeze); ok && len(what) > 2 {
		f.Backend = what[2]
	}
	steps, err := fault.Plan(context.Background(), "abcd23", target) //nolint:staticcheck // it heeds none
	switch {
	case errors.Is(err, os.ErrPermission):
		return "permission: " + err.Error()
	case err != nil:
		return err.Error()
	}
	return "planned: " + steps[0].Do.String()
}

var host = proc.Host()

// prey is a process to break.
type prey struct {
	cmd    *exec.Cmd
	id     experiment.ProcessID
	cgroup string // its own, "" where it has none
}

func newPrey(t testing.TB) *prey {
	t.Helper()
	return preyOf(t, exec.Command("sleep", "60"))
}

// preyOf starts a command and waits until it sleeps.
func preyOf(t testing.TB, cmd *exec.Cmd) *prey {
	t.Helper()
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	await(t, cmd.Args[0], func() bool {
		st, err := host.Stat(cmd.Process.Pid)
		return err == nil && st.Comm == cmd.Args[0] && st.State == 'S'
	})
	id, err := host.Identify(cmd.Process.Pid)
	must(t, err)
	return &prey{cmd: cmd, id: id}
}

// inCgroup moves it into a cgroup of its own, of this freezer's version.
func (p *prey) inCgroup(t testing.TB, version string) *prey {
	t.Helper()
	own, err := host.Cgroup(os.Getpid())
	must(t, err)
	root := own.V2.Path
	if version == op.FreezerV1 {
		root = own.V1["freezer"].Path
	}
	switch {
	case root == "":
		t.Skip("no " + version + " is mounted")
	case os.Geteuid() != 0:
		t.Skip("a cgroup can be made by root only")
	}
	p.cgroup, err = os.MkdirTemp(root, "simian-test-"+strconv.Itoa(os.Getpid())+"-")
	must(t, err)
	must(t, os.Chmod(p.cgroup, 0o755)) // others may look, as into any cgroup
	dir := p.cgroup
	t.Cleanup(func() {
		_ = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
		p.kill()
		await(t, "rmdir "+dir, func() bool { return os.Remove(dir) == nil })
	})
	must(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(p.id.PID)), 0))
	return p
}

func (p *prey) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *prey) target(t testing.TB) experiment.Target {
	t.Helper()
	target, err := host.Target(p.id.PID)
	must(t, err)
	target.Kind, target.Name, target.ID = "process", "web", p.id.Handle()
	return target
}

// snapshot tells what a fault could change of a target.
func snapshot(t experiment.Target) string {
	var lines []string
	for _, id := range t.PIDs {
		state := "gone"
		if st, err := host.Stat(id.PID); err == nil && st.Start == id.Start && !st.Exited() {
			state = "runs"
			if st.State == 'T' {
				state = "stopped"
			}
		}
		lines = append(lines, id.String()+" "+state)
	}
	for _, file := range []string{t.Cgroup.V1["freezer"].Path + "/freezer.state", t.Cgroup.V2.Path + "/cgroup.events"} {
		if data, err := os.ReadFile(file); err == nil {
			_, frozen, _ := strings.Cut(string(data), "frozen ")
			lines = append(lines, file+" "+strings.TrimSpace(frozen))
			if strings.HasSuffix(file, "state") {
				lines = append(lines, strings.TrimSpace(string(data)))
			}
		}
	}
	return strings.Join(lines, "\n")
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: it does not come", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
