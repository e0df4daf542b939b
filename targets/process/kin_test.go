package process

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// pidsOf selects, and returns the first process of each target.
func pidsOf(t *testing.T, p Process) []int {
	t.Helper()
	p.fs = proc.Host()
	targets, err := p.Select(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, target := range targets {
		pids = append(pids, target.PIDs[0].PID)
	}
	slices.Sort(pids)
	return pids
}

func wantFirst(t *testing.T, p Process, want ...int) {
	t.Helper()
	slices.Sort(want)
	if got := pidsOf(t, p); !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", &p, got, want)
	}
}

func TestUser(t *testing.T) {
	t.Parallel()
	needRoot(t)
	name := unique("usr")
	path := program(t, name)
	must(t, os.Chmod(filepath.Dir(path), 0o755))
	must(t, os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755))
	own := run(t, exec.Command(path, "300"))
	other := exec.Command(path, "300")
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	theirs := run(t, other)
	wantFirst(t, Process{Name: name, User: "0"}, own)
	if root, err := user.LookupId("0"); err == nil { // the second kernel's machine has no /etc/passwd
		wantFirst(t, Process{Name: name, User: Word(root.Username)}, own)
	}
	wantFirst(t, Process{Name: name, User: "65534"}, theirs)
	wantFirst(t, Process{Name: name}, own, theirs)
}

func TestNetNS(t *testing.T) {
	t.Parallel()
	needRoot(t)
	name := unique("net")
	path := program(t, name)
	here := run(t, exec.Command(path, "300"))
	apart := exec.Command(path, "300")
	apart.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	there := run(t, apart)
	wantFirst(t, Process{Name: name, NetNS: "/proc/" + strconv.Itoa(there) + "/ns/net"}, there)
	wantFirst(t, Process{NetNS: "/proc/" + strconv.Itoa(there) + "/ns/net"}, there)
	wantFirst(t, Process{Name: name, NetNS: "/proc/" + strconv.Itoa(here) + "/ns/net"}, here)
}

func TestAncestor(t *testing.T) {
	t.Parallel()
	name, parent := unique("chd"), unique("par")
	path, starter := program(t, name), copyOf(t, "/proc/self/exe", parent)
	alone := run(t, exec.Command(path, "300"))
	top := exec.Command(starter, "parent", path)
	top.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	above := run(t, top)
	t.Cleanup(func() { _ = syscall.Kill(-above, syscall.SIGKILL) })
	var below []int
	await(t, func() bool {
		found, err := (&Process{Name: name, Ancestor: Word(strconv.Itoa(above)), fs: proc.Host()}).Select(t.Context())
		below = below[:0]
		for _, target := range found {
			below = append(below, target.PIDs[0].PID)
		}
		return err == nil && len(found) == 2
	})
	wantFirst(t, Process{Name: name, Ancestor: Word(parent)}, below...)
	wantFirst(t, Process{Name: name}, append(below, alone)...)

	group := Process{Name: name, Ancestor: Word(parent), Group: true, fs: proc.Host()}
	targets, err := group.Select(t.Context())
	if err != nil || len(targets) != 1 || len(targets[0].PIDs) != 2 || targets[0].Name != name || targets[0].ID != targets[0].PIDs[0].Handle() {
		t.Errorf("%+v, %v", targets, err)
	}
}

func TestContainerOfProcess(t *testing.T) {
	t.Parallel()
	needRoot(t)
	name := unique("ctr")
	id := strings.Repeat("0", 64-len(strconv.Itoa(os.Getpid()))) + strconv.Itoa(os.Getpid())
	other := id[:63] + "f"
	one, two := makeCgroup(t, "pids", "docker-"+id+".scope"), makeCgroup(t, "pids", "docker-"+other+".scope")
	path := program(t, name)
	in, out := run(t, exec.Command(path, "300")), run(t, exec.Command(path, "300"))
	join(t, one, in)
	wantFirst(t, Process{Container: id}, in)
	wantFirst(t, Process{Name: name, Container: id[:60]}, in)
	wantFirst(t, Process{Name: name}, in, out)
	join(t, two, out)
	_, err := (&Process{Name: name, Container: id[:63], fs: proc.Host()}).Select(t.Context())
	if !errors.Is(err, experiment.ErrNoMatch) || !strings.Contains(err.Error(), "2 containers begin with") {
		t.Error(err)
	}
}

func TestContainerID(t *testing.T) {
	t.Parallel()
	id := strings.Repeat("3f1c", 16)
	for path, want := range map[string]string{
		"/docker/" + id:                                    id,
		"/system.slice/docker-" + id + ".scope":            id,
		"/kubepods/besteffort/podab-cd/" + id:              id,
		"/kubepods.slice/cri-containerd-" + id + ".scope":  id,
		"/kubepods.slice/crio-" + id + ".scope":            id,
		"/machine.slice/libpod-" + id + ".scope/container": id,
		"/system.slice:cri-containerd:" + id:               id,
		"/docker/" + id + "/init":                          id,
		"/docker/" + id[:12]:                               "",
		"/system.slice/nginx.service":                      "",
		"/":                                                "",
		"/docker/" + strings.Repeat("3F1C", 16):            "",
	} {
		if got := container(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
