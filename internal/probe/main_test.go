package probe

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

// roleVar names what the test binary does instead of testing, where a test
// needs another process.
const roleVar = "PROBE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case "":
		os.Exit(m.Run())
	case "serve":
		serve()
	}
}

// serve answers HTTP on a port of its own, printed first, until its standard
// input ends.
func serve() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go http.Serve(l, http.HandlerFunc(stats))
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func stats(w http.ResponseWriter, _ *http.Request) {
	io.WriteString(w, `{"perMinute": 2500, "healthy": true, "queues": [{"name": "mail", "depth": 3}]}`)
}

// startServer returns the address of a server in a process of its own.
func startServer(tb testing.TB) string {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"=serve")
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		tb.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	var address string
	if _, err := fmt.Fscanln(out, &address); err != nil {
		tb.Fatal(err)
	}
	return address
}

// newServer answers with handler on loopback.
func newServer(tb testing.TB, handler http.HandlerFunc) string {
	tb.Helper()
	s := httptest.NewServer(handler)
	tb.Cleanup(s.Close)
	return s.URL
}

// newListener gives each connection to handle, and closes what is left of
// them at the end.
func newListener(tb testing.TB, handle func(net.Conn)) (address string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			tb.Cleanup(func() { conn.Close() })
			go handle(conn)
		}
	}()
	return l.Addr().String()
}

// silent accepts connections and never answers.
func silent(tb testing.TB) string {
	return newListener(tb, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
}

// closedPort is an address that nobody listens at.
func closedPort(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// eventually fails the test where ok stays false for very long.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	tb.Fatalf("%s: not so after 30s", what)
}

// noMoreGoroutines fails the test where there stay more than there were.
func noMoreGoroutines(tb testing.TB, before int) {
	tb.Helper()
	eventually(tb, "goroutines are gone", func() bool {
		if runtime.NumGoroutine() <= before {
			return true
		}
		http.DefaultClient.CloseIdleConnections()
		return false
	})
}

// checkError wants an error that says want, or none where want is "".
func checkError(tb testing.TB, err error, want string) {
	tb.Helper()
	switch {
	case err == nil && want != "":
		tb.Fatalf("got no error, want %q", want)
	case err != nil && want == "":
		tb.Fatalf("got %q, want no error", err)
	case err != nil && !strings.Contains(err.Error(), want):
		tb.Fatalf("got %q, want %q", err, want)
	}
}

// newProbe returns the catalogue's probe of type T, with its defaults, changed.
func newProbe[T experiment.Probe](name string, change func(T)) T {
	p := All(Env{})[name]().(T)
	change(p)
	return p
}
