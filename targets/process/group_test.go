package process

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// makeCgroup makes a cgroup in the hierarchy of a controller ("" is version
// 2) until the test ends.
func makeCgroup(t *testing.T, controller, name string) string {
	t.Helper()
	needRoot(t)
	roots, err := proc.Host().FindCgroup("/")
	if err != nil {
		t.Fatal(err)
	}
	root := roots.V1[controller]
	if controller == "" {
		root = roots.V2
	}
	if root.Path == "" {
		t.Skipf("cgroup hierarchy %q is not mounted here", controller)
	}
	return makeDir(t, filepath.Join(root.Path, name))
}

func makeDir(t *testing.T, dir string) string {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		await(t, func() bool { err := os.Remove(dir); return err == nil || errors.Is(err, os.ErrNotExist) })
	})
	return dir
}

func join(t *testing.T, dir string, pid int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// inTurn starts n processes, each in a later clock tick than the one before.
func inTurn(t *testing.T, n int) (pids []int) {
	t.Helper()
	path := program(t, "member")
	for range n {
		pid := run(t, exec.Command(path, "300"))
		if len(pids) > 0 {
			before, _ := proc.Host().Identify(pids[len(pids)-1])
			if now, _ := proc.Host().Identify(pid); now.Start == before.Start {
				await(t, func() bool {
					pid = run(t, exec.Command(path, "300"))
					now, _ := proc.Host().Identify(pid)
					return now.Start > before.Start
				})
			}
		}
		pids = append(pids, pid)
	}
	return pids
}

// wantGroup checks that one target is found, of exactly these processes in
// this order.
func wantGroup(t *testing.T, p Process, want ...int) experiment.Target {
	t.Helper()
	targets, err := selected(p)
	if err != nil {
		t.Fatalf("%s: %v", p.String(), err)
	}
	if len(targets) != 1 {
		t.Fatalf("%s: %d targets", p.String(), len(targets))
	}
	var got []int
	for _, id := range targets[0].PIDs {
		got = append(got, id.PID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", p.String(), diff)
	}
	return targets[0]
}

func TestSelectByCgroup(t *testing.T) {
	for _, controller := range []string{"", "freezer", "memory"} {
		t.Run("hierarchy "+controller, func(t *testing.T) {
			name := "simian-test-" + strconv.Itoa(os.Getpid()) + "-select"
			dir := makeCgroup(t, controller, name)
			below := makeDir(t, filepath.Join(dir, "below"))
			wantNone(t, Process{Cgroup: name}, "nothing runs in cgroup "+name)
			pids := inTurn(t, 3)
			join(t, below, pids[0])
			join(t, dir, pids[1])
			join(t, dir, pids[2])
			for _, path := range []string{dir, name, "/" + name} {
				got := wantGroup(t, Process{Cgroup: path}, pids...)
				id, err := proc.StatCgroup(dir)
				if err != nil || got.ID != id.Handle() || got.Name != name || got.Kind != "process" || got.Labels["cgroup"] != dir || got.Workload != "cgroup "+dir {
					t.Errorf("%+v, %v", got, err)
				}
				own := got.Cgroup.V2
				if controller != "" {
					own = got.Cgroup.V1[controller]
				}
				if own != id {
					t.Errorf("cgroup of the target: %+v, want the whole %+v", own, id)
				}
				if controller == "memory" {
					continue
				}
				if freezes, _, ok := proc.Host().OwnCgroup(got); !ok || freezes != id {
					t.Errorf("cannot be frozen as a whole: %+v, %v", freezes, ok)
				}
			}
			wantGroup(t, Process{Cgroup: below}, pids[0])
			wantNone(t, Process{Cgroup: name[:len(name)-1]}, "there is no cgroup", "did you mean", name)
		})
	}
}

func TestSelectByCgroupWithZombie(t *testing.T) {
	dir := makeCgroup(t, "freezer", "simian-test-"+strconv.Itoa(os.Getpid())+"-zombie")
	pids := inTurn(t, 2)
	join(t, dir, pids[0])
	join(t, dir, pids[1])
	dead, err := os.FindProcess(pids[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { s, err := proc.Host().Stat(pids[0]); return err == nil && s.Exited() })
	wantGroup(t, Process{Cgroup: dir}, pids[1])
}

func TestSelectByCgroupProtected(t *testing.T) {
	needRoot(t)
	targets, err := selected(Process{Cgroup: "/"})
	if err != nil || len(targets) != 1 {
		t.Fatal(len(targets), err)
	}
	p, err := proc.Host().Protected()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(targets[0]); !errors.Is(err, experiment.ErrProtected) {
		t.Error(err)
	}
}

func TestSelectByUnit(t *testing.T) {
	for _, controller := range []string{"systemd", ""} {
		t.Run("hierarchy "+controller, func(t *testing.T) {
			unit := "x-" + strconv.Itoa(os.Getpid()) + ".service"
			dir := makeCgroup(t, controller, unit)
			below := makeDir(t, filepath.Join(dir, "below"))
			pids := inTurn(t, 2)
			join(t, below, pids[0])
			join(t, dir, pids[1])
			id, err := proc.StatCgroup(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{unit, strings.TrimSuffix(unit, ".service")} {
				got := wantGroup(t, Process{Unit: name}, pids...)
				if got.ID != id.Handle() || got.Name != unit || got.Workload != unit || got.Labels["unit"] != unit {
					t.Errorf("%+v", got)
				}
			}
			one := wantPIDs(t, Process{PID: pids[0]}, pids[0])[0]
			if one.Workload != unit || one.Labels["unit"] != unit {
				t.Errorf("a process of the unit: %q %v", one.Workload, one.Labels)
			}
			wantNone(t, Process{Unit: "x" + unit}, "nothing runs in unit x"+unit, "did you mean", unit)
		})
	}
}

// TestSelectUnitsOfTheSameName checks that a user's unit is a target of its own.
func TestSelectUnitsOfTheSameName(t *testing.T) {
	unit := "y-" + strconv.Itoa(os.Getpid()) + ".service"
	dir := makeCgroup(t, "systemd", unit)
	slice := makeCgroup(t, "systemd", "user-"+strconv.Itoa(os.Getpid())+".slice")
	users := makeDir(t, filepath.Join(slice, unit))
	pids := inTurn(t, 2)
	join(t, dir, pids[0])
	join(t, users, pids[1])
	targets, err := selected(Process{Unit: unit})
	if err != nil || len(targets) != 2 || targets[0].ID == targets[1].ID {
		t.Errorf("%+v, %v", targets, err)
	}
	wantGroup(t, Process{Unit: filepath.Base(slice)}, pids[1])
}

func TestUnitName(t *testing.T) {
	t.Parallel()
	for give, want := range map[string]string{
		"nginx": "nginx.service", "nginx.service": "nginx.service", "my.app": "my.app.service",
		"session-3.scope": "session-3.scope", "worker@1": "worker@1.service", "web.slice": "web.slice",
	} {
		if got := unitName(give); got != want {
			t.Errorf("%s: got %s, want %s", give, got, want)
		}
	}
}

func TestCutAt(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, path, unit, want string }{
		{"itself", "/system.slice/a.service", "a.service", "/system.slice/a.service"},
		{"below", "/system.slice/a.service/b/c", "a.service", "/system.slice/a.service"},
		{"the last of two", "/a.service/b/a.service/c", "a.service", "/a.service/b/a.service"},
		{"escaped", "/system.slice/_cpu.service/x", "cpu.service", "/system.slice/_cpu.service"},
		{"part of a name", "/system.slice/aa.service", "a.service", ""},
		{"none", "/", "a.service", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, ok := cutAt(test.path, test.unit); got != test.want || ok != (test.want != "") {
				t.Errorf("got %q, %v", got, ok)
			}
		})
	}
}

func TestLastUnit(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/": "", "/system.slice": "", "/system.slice/a.service": "a.service", "/system.slice/a.service/sub": "a.service",
		"/user.slice/user-1000.slice/session-3.scope":            "session-3.scope",
		"/user.slice/user@1000.service/app.slice/b.service/init": "b.service",
		"/user.slice/user@1000.service/app.slice":                "user@1000.service",
		"/system.slice/_cpu.service":                             "cpu.service",
	} {
		if got := lastUnit(path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

// TestGroupWhoseListChanges checks that a process which is no longer listed
// once it was identified is not taken for one of the group.
func TestGroupWhoseListChanges(t *testing.T) {
	t.Parallel()
	pids := inTurn(t, 2)
	p := &Process{fs: proc.Host()}
	times := 0
	got, err := p.group(func() ([]int, error) {
		times++
		return slices.Clone(pids[:3-times]), nil
	})
	if err != nil || len(got.PIDs) != 1 || got.PIDs[0].PID != pids[0] {
		t.Errorf("%+v, %v", got.PIDs, err)
	}
	if _, err := p.group(func() ([]int, error) { return []int{0, pids[0]}, nil }); !errors.Is(err, experiment.ErrUnsupported) {
		t.Error("a process without a pid here:", err)
	}
	if _, err := p.group(func() ([]int, error) { return nil, nil }); !errors.Is(err, experiment.ErrGone) {
		t.Error("nobody:", err)
	}
}
