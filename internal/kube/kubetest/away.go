package kubetest

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Away runs fn while the API server is gone, killed at once, and waits until it
// answers again. The controller manager goes and comes with it, as on a machine
// that crashes: one that stays tries for its watches again up to a minute later.
func (a *API) Away(t testing.TB, fn func()) {
	t.Helper()
	a.kill(t, "apiserver")
	Until(t, "the API server is gone", func() bool {
		_, _, err := a.Try(http.MethodGet, "/readyz", nil)
		return err != nil
	})
	a.kill(t, "manager")
	fn()
	a.start(t, "apiserver")
	Until(t, "the API server is back", func() bool { // its answer is "ok", no JSON
		status, _, _ := a.Try(http.MethodGet, "/readyz", nil)
		return status == http.StatusOK
	})
	a.start(t, "manager")
}

// kill kills a daemon of with.sh's.
func (a *API) kill(t testing.TB, daemon string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(a.dir, daemon+".pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	old, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
}

// start starts a daemon anew, as with.sh did.
func (a *API) start(t testing.TB, daemon string) {
	t.Helper()
	c := exec.Command("sh", "-c", `echo $$ >"$SIMIAN_KUBE_GROUP/cgroup.procs" && exec sh "$0.sh" >>"$0.log" 2>&1`, filepath.Join(a.dir, daemon))
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.Wait() }()
	if err := os.WriteFile(filepath.Join(a.dir, daemon+".pid"), []byte(strconv.Itoa(c.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
}
