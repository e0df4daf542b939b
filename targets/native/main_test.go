package native

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// inside is testdata/inside, built once. Where there is no Go to build it with,
// test/vm has put it beside its source.
var inside = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "simian-inside")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "inside")
	if built, err := os.ReadFile("testdata/inside/inside"); err == nil {
		return file, os.WriteFile(file, built, 0o755)
	}
	build := exec.Command("go", "build", "-o", file, "./testdata/inside")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return file, nil
})

// What tests leave in this process is looked for once all of them have ended,
// since they run side by side.
func TestMain(m *testing.M) {
	before := held()
	code := m.Run()
	if code == 0 && os.Geteuid() == 0 {
		code = settled(before)
	}
	if file, err := inside(); err == nil {
		_ = os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(code)
}

// settled waits until nothing is left in this process that was not there
// before, and says what is.
func settled(before map[string]int) int {
	var left []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		left = nil
		for what, n := range held() {
			if n > before[what] {
				left = append(left, fmt.Sprintf("%d %s", n-before[what], what))
			}
		}
		left = append(left, goroutines()...)
		if len(left) == 0 {
			return 0
		}
	}
	fmt.Println("left in this process:\n" + strings.Join(left, "\n\n"))
	return 1
}

// held counts what this process holds of containers: descriptors of pidfds,
// namespaces, pipes and logs, children, and threads in other namespaces.
func held() map[string]int {
	n := map[string]int{}
	for _, pattern := range []string{"/proc/self/fd/*", "/proc/self/task/*/ns/net", "/proc/self/task/*/ns/mnt"} {
		links, _ := filepath.Glob(pattern)
		for _, link := range links {
			to, _ := os.Readlink(link)
			switch {
			case strings.HasPrefix(to, "anon_inode:[pidfd]"), strings.HasPrefix(to, "pipe:"):
				to, _, _ = strings.Cut(to, ":[")
				n[to]++
			case strings.HasPrefix(to, "net:"), strings.HasPrefix(to, "mnt:"), strings.HasSuffix(to, ".log"):
				n[to]++
			}
		}
	}
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		data, _ := os.ReadFile(list)
		n["children"] += len(strings.Fields(string(data)))
	}
	delete(n, "mnt:"+strings.TrimPrefix(ownNamespace("mnt"), "mnt:"))
	delete(n, ownNamespace("net"))
	return n
}

func ownNamespace(kind string) string {
	to, _ := os.Readlink("/proc/self/ns/" + kind)
	return to
}

// goroutines returns those of labs that are still there.
func goroutines() []string {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var left []string
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		ours := strings.Contains(stack, "/targets/native") || strings.Contains(stack, "/internal/")
		if ours && !strings.Contains(stack, "TestMain") && !strings.Contains(stack, "lumberjack") {
			left = append(left, stack)
		}
	}
	return left
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can launch containers")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until ok gives no more than "".
func eventually(t testing.TB, ok func() string) {
	t.Helper()
	why := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if why = ok(); why == "" {
			return
		}
	}
	t.Fatalf("it does not come to be: %s", why)
}
