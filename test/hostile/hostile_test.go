package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/*.golden and the table in docs/isolation.md")

// engine launches containers from one image, which has this program and little
// else.
type engine interface {
	start(t *testing.T, c container) (running, error)
	// exec runs a further process in a container, to its end.
	exec(t *testing.T, r running, args ...string)
}

// running is a container that was started.
type running interface {
	ask(line string) string // says a line, hears one
	wait() (out, end string)
}

// container is what the tests ask for, on top of the engine's defaults.
type container struct {
	args []string
	env  []string
	dir  string // working directory
	root string // a folder instead of the image
	init bool   // a reaper is PID 1
	vol  string // a folder of the host's at /vol
	in   bool   // its standard input is a pipe

	memory, pids int64 // limits; 0 is without
	files        int64
	scratch      int64 // bytes of a tmpfs at /scratch; 0 is the engine's default
}

const (
	mib      = 1 << 20
	enough   = 256 * mib
	patience = 30 * time.Second
)

// TestMain is also what the tests' own binary does in a container that
// executes /proc/self/exe: it stays, to be caught.
func TestMain(m *testing.M) {
	if os.Args[0] == "/proc/self/exe" {
		time.Sleep(time.Second)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// image makes a folder that is an image, and returns it.
func image(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "hostile"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, name := range []string{"mnt", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// attackWith makes every attempt in containers of e, and looks after each
// container whether the host or the neighbour has noticed. The result is a
// line for each attempt.
func attackWith(t *testing.T, e engine, img string) []string {
	t.Helper()
	w := newWorld(t)
	neighbour, err := e.start(t, container{args: []string{"/hostile", "echo"}, in: true, memory: enough, pids: 64})
	if err != nil {
		t.Fatal(err)
	}
	a := &assault{T: t, engine: e, world: w, neighbour: neighbour, image: img}
	a.attempts()
	a.bombs()
	a.workingDirs()
	a.overwriteRuntime()
	a.imagesOfLinks()
	return a.lines
}

// assault collects the lines.
type assault struct {
	*testing.T
	engine
	world     *world
	neighbour running
	image     string
	lines     []string
}

// run runs one container to its end, and asks around.
func (a *assault) run(c container) (out, end string, err error) {
	a.Helper()
	if c.memory == 0 {
		c.memory = enough
	}
	r, err := a.start(a.T, c)
	if err == nil {
		out, end = r.wait()
	}
	a.unharmed()
	return out, end, err
}

func (a *assault) unharmed() {
	a.Helper()
	if got := a.neighbour.ask("still there?"); got != "echo still there?" {
		a.Fatalf("the neighbour says %q", got)
	}
	a.world.unharmed(a.T)
}

func (a *assault) note(name, outcome string) { a.lines = append(a.lines, name+": "+outcome) }

func (a *assault) attempts() {
	a.Helper()
	out, end, err := a.run(container{args: []string{"/hostile", "attempts"}, env: a.world.env(), vol: a.world.volume, pids: 64})
	if err != nil || end != "exit 0" {
		a.Fatalf("attempts: %v, %s\n%s", err, end, out)
	}
	a.lines = append(a.lines, strings.Split(strings.TrimSpace(out), "\n")...)
}

func (a *assault) bombs() {
	a.Helper()
	for _, b := range []struct {
		name string
		c    container
	}{
		{"fork bomb, 64 processes allowed", container{args: []string{"/hostile", "forks"}, pids: 64}},
		{"memory bomb, 64 MiB allowed", container{args: []string{"/hostile", "memory"}, memory: 64 * mib}},
		{"descriptor bomb, 256 allowed", container{args: []string{"/hostile", "descriptors"}, files: 256}},
		{"fill /dev/shm", container{args: []string{"/hostile", "fill", "/dev/shm"}}},
		{"fill /dev", container{args: []string{"/hostile", "fill", "/dev"}}},
		{"fill a tmpfs of 16 MiB", container{args: []string{"/hostile", "fill", "/scratch"}, scratch: 16 * mib}},
		{"fill a tmpfs without a size, 64 MiB of memory allowed", container{args: []string{"/hostile", "fill", "/scratch"}, memory: 64 * mib}},
	} {
		out, end, err := a.run(b.c)
		if err != nil {
			a.Fatalf("%s: %v", b.name, err)
		}
		a.note(b.name, ending(out, end))
	}
}

// ending is how a bomb ended: by its own word where it has one.
func ending(out, end string) string {
	if _, word, ok := strings.Cut(strings.TrimSpace(out), ": "); ok && end == "exit 0" {
		return word
	}
	return end
}

// workingDirs starts in files that what launches may have left open.
func (a *assault) workingDirs() {
	a.Helper()
	outcome := "contained"
	for fd := 3; fd < 16; fd++ {
		out, _, err := a.run(container{args: []string{"/hostile", "cwd"}, dir: fmt.Sprintf("/proc/self/fd/%d", fd)})
		if err == nil && !strings.Contains(out, "contained") && out != "" {
			outcome = fmt.Sprintf("%d: %s", fd, out)
		}
	}
	a.note("start in a file that was left open (CVE-2024-21626)", outcome)
}

// overwriteRuntime has one process wait for others, which are started from
// outside, and take hold of what they are at first.
func (a *assault) overwriteRuntime() {
	a.Helper()
	r, err := a.start(a.T, container{args: []string{"/hostile", "watch", "4s"}, memory: enough})
	if err != nil {
		a.Fatal(err)
	}
	for range 3 {
		a.exec(a.T, r, "/hostile", "euid")
		a.exec(a.T, r, "/proc/self/exe")
	}
	out, end := r.wait()
	a.unharmed()
	a.Logf("overwrite the runtime: %s, %s", strings.TrimSpace(out), end)
	outcome := "contained"
	if end != "exit 0" || strings.Contains(out, "DONE") {
		outcome = out + end
	}
	a.note("overwrite the runtime (CVE-2019-5736)", outcome)
}

// imagesOfLinks starts containers whose image has links where folders are
// mounted or made: to a folder of the host's.
func (a *assault) imagesOfLinks() {
	a.Helper()
	for _, name := range []string{"proc", "sys", "dev", "etc", "vol", "scratch"} {
		root := a.imageOfLinks(name)
		out, end, err := a.run(container{args: []string{"/hostile", "cwd"}, root: root, vol: a.world.volume, scratch: mib, dir: "/etc/made"})
		outcome := "started, and stayed in its root"
		switch {
		case err != nil:
			outcome = "refused"
			a.Logf("/%s is a link: %v", name, err)
		case end != "exit 0":
			outcome = end + out
		}
		a.note("start from an image whose /"+name+" is a link to the host", outcome)
	}
}

func (a *assault) imageOfLinks(name string) string {
	a.Helper()
	root := a.TempDir()
	if err := os.Link(filepath.Join(a.image, "hostile"), filepath.Join(root, "hostile")); err != nil {
		a.Fatal(err)
	}
	if err := os.Symlink("../../../../../../.."+a.world.folder, filepath.Join(root, name)); err != nil {
		a.Fatal(err)
	}
	return root
}

// holdGolden compares lines with a golden file. A file that one kernel has and
// another has not makes no difference.
func holdGolden(t *testing.T, file string, lines []string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wanted := strings.Split(strings.TrimSpace(string(want)), "\n")
	for i := range min(len(lines), len(wanted)) {
		if sameBut(lines[i], wanted[i]) {
			lines[i] = wanted[i]
		}
	}
	if diff := cmp.Diff(wanted, lines); diff != "" {
		t.Errorf("%s (-want +got)\n%s", file, diff)
	}
}

// sameBut tells whether two lines differ in nothing but that a file of the
// kernel's is not there, on one side.
func sameBut(a, b string) bool {
	nameA, outcomeA, _ := strings.Cut(a, ": ")
	nameB, outcomeB, _ := strings.Cut(b, ": ")
	file := strings.HasPrefix(nameA, "read /") || strings.HasPrefix(nameA, "write /")
	return nameA == nameB && file && (outcomeA == "ENOENT" || outcomeB == "ENOENT") && !strings.Contains(a+b, "bad")
}

func TestRefusesOutsideOfAContainer(t *testing.T) {
	t.Parallel()
	if err := run([]string{"attempts"}); err == nil {
		t.Error("it ran")
	}
}
