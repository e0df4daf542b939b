// Package faults tests every fault on every kind of target, on the kernel it
// runs on: that it keeps to what every fault must (experimenttest.Fault), that
// the target feels it, and that nothing of it is left. What came of it is the
// table in docs/chaos.md.
//
// A fault gets a case, or several, in cases_*_test.go.
package faults

import (
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/runtime"
	"github.com/simianhq/simian/targets/native"
)

var update = flag.Bool("update", false, "write testdata/support.json for this kernel, and the table in docs/chaos.md")

var host = proc.Host()

// aside is how many cells are tested at a time: most of their time they wait.
const aside = "6"

// TestMain is also what applies steps, to be killed then.
func TestMain(m *testing.M) {
	if file := os.Getenv(applyEnv); file != "" {
		os.Exit(applyAndStay(file))
	}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil { // package net asks once what there is of IPv6: here, and not in a namespace that has nothing yet
		_ = l.Close()
	}
	flag.Parse()
	_ = flag.Set("test.parallel", aside)
	code := m.Run()
	if file, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(code)
}

// program is testdata/subject, built once. In the machine of test/vm it lies
// beside its source.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "simian-faults-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "subject")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "./testdata/subject")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the subject: %w: %s", err, out)
	}
	return file, nil
})

// codec reads and writes journals as Simian does.
func codec() experiment.Codec {
	ops := op.All(host)
	for name, make := range native.Ops(host) {
		ops[name] = make
	}
	maps.Copy(ops, runtime.Ops(runtime.New()))
	return experiment.Codec{Ops: ops}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// patience is how long a thing may take to be as it should.
const patience = 15 * time.Second

// eventually waits until ok gives no more than "".
func eventually(t testing.TB, ok func() string) bool {
	t.Helper()
	why := ""
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if why = ok(); why == "" {
			return true
		}
	}
	t.Errorf("it does not come to be: %s", why)
	return false
}
