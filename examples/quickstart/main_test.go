package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen. Nothing is measured
// with it: on a quiet machine all of it takes milliseconds.
const patience = 30 * time.Second

const asCommand = "QUICKSTART_TEST_AS_COMMAND"

// TestMain lets the test binary be the command, so that the tests run real
// processes: a supervisor starts its workers from its own binary.
func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// service is a running supervisor, and what it logs.
type service struct {
	*exec.Cmd
	addr  string
	lines chan string // closed when the last process that holds standard error ends
}

func startService(t *testing.T, workers int) *service {
	t.Helper()
	s := &service{Cmd: exec.Command(os.Args[0], "serve", "--listen", "127.0.0.1:0", "--workers", fmt.Sprint(workers)), lines: make(chan string, 1000)}
	s.Env = append(os.Environ(), asCommand+"=1")
	logs, err := s.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Process.Kill()
		_ = s.Wait()
	})
	go func() {
		defer close(s.lines)
		for scan := bufio.NewScanner(logs); scan.Scan(); {
			s.lines <- scan.Text()
		}
	}()
	s.addr = s.await(t, `serving at http://(\S+)$`)
	return s
}

// await reads the log up to a line that matches, and returns its first group.
func (s *service) await(t *testing.T, pattern string) string {
	t.Helper()
	want := regexp.MustCompile(pattern)
	late := time.After(patience)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				t.Fatalf("the log ended before a line with %s", pattern)
			}
			t.Log(line)
			if m := want.FindStringSubmatch(line); m != nil {
				return m[1]
			}
		case <-late:
			t.Fatalf("no line in the log with %s", pattern)
		}
	}
}

// startedWorkers reads the log up to the start of n workers.
func (s *service) startedWorkers(t *testing.T, n int) []int {
	t.Helper()
	var pids []int
	for range n {
		var pid int
		if _, err := fmt.Sscan(s.await(t, `worker \d+ started, pid (\d+)`), &pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// pid asks a worker for its pid, on a connection of its own, and once more
// where that breaks: it may have been the one of a worker that is killed.
func (s *service) pid(t *testing.T) int {
	t.Helper()
	var stats struct{ PID int }
	err := s.get("/stats", &stats)
	if err != nil {
		t.Log("once more after:", err)
		err = s.get("/stats", &stats)
	}
	if err != nil {
		t.Fatal("the service does not answer:", err)
	}
	return stats.PID
}

func (s *service) get(path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+path, nil)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}

// answeredBy asks until the worker with this pid has answered.
func (s *service) answeredBy(t *testing.T, pid int) {
	t.Helper()
	until(t, fmt.Sprintf("an answer of pid %d", pid), func() bool { return s.pid(t) == pid })
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("%s: not after %s", what, patience)
		}
	}
}

// stat returns a process's state and parent, "" where there is no process.
func stat(pid int) (state string, parent int) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	if _, err := fmt.Sscan(rest, &state, &parent); err != nil {
		return "", 0
	}
	return state, parent
}

// ended tells whether a process is gone, or dead and only not reaped yet.
func ended(pid int) bool {
	state, _ := stat(pid)
	return state == "" || state == "Z" || state == "X"
}

func send(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("send %s to pid %d: %v", sig, pid, err)
	}
}

func TestKilledWorkerIsStartedAgain(t *testing.T) {
	t.Parallel()
	s := startService(t, 2)
	pids := s.startedWorkers(t, 2)
	for _, pid := range pids {
		s.answeredBy(t, pid)
	}
	send(t, pids[0], syscall.SIGKILL)
	for range 20 { // meanwhile the other one serves
		s.pid(t)
	}
	again := s.startedWorkers(t, 1)[0]
	if slices.Contains(pids, again) {
		t.Fatalf("pid %d was started twice", again)
	}
	s.answeredBy(t, again)
	s.answeredBy(t, pids[1])
}

func TestQueuedConnectionsOutliveTheirWorker(t *testing.T) {
	t.Parallel()
	s := startService(t, 1)
	pid := s.startedWorkers(t, 1)[0]
	s.answeredBy(t, pid)
	send(t, pid, syscall.SIGSTOP)
	until(t, "the worker is stopped", func() bool { state, _ := stat(pid); return state == "T" })
	answer := make(chan error, 1)
	go func() { answer <- s.get("/stats", &struct{ PID int }{}) }()
	until(t, "the connection waits", func() bool { return s.waiting(t) == 1 })
	send(t, pid, syscall.SIGKILL)
	if err := <-answer; err != nil {
		t.Error("the connection was lost:", err)
	}
}

// waiting returns how many connections wait to be accepted: proc_net_tcp(5)
// tells it as the receive queue of a socket that listens.
func (s *service) waiting(t *testing.T) int {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	var port int
	if _, err := fmt.Sscanf(s.addr, "127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(fmt.Sprintf(`0100007F:%04X 00000000:0000 0A [0-9A-F]+:([0-9A-F]+)`, port)).FindSubmatch(table)
	if m == nil {
		t.Fatalf("nothing listens at %s", s.addr)
	}
	var n int
	if _, err := fmt.Sscanf(string(m[1]), "%x", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTermEndsAll(t *testing.T) {
	t.Parallel()
	s := startService(t, 3)
	pids := s.startedWorkers(t, 3)
	s.answeredBy(t, pids[0])
	send(t, s.Process.Pid, syscall.SIGTERM)
	for range s.lines { // to its end: then no process holds it any more
	}
	if err := s.Wait(); err != nil {
		t.Error("the supervisor ended with", err)
	}
	for _, pid := range pids {
		if !ended(pid) {
			t.Errorf("worker %d is left", pid)
		}
	}
}

func TestKilledSupervisorTakesItsWorkersAlong(t *testing.T) {
	t.Parallel()
	s := startService(t, 3)
	pids := s.startedWorkers(t, 3)
	send(t, pids[0], syscall.SIGSTOP) // a stopped one too
	send(t, s.Process.Pid, syscall.SIGKILL)
	for _, pid := range pids {
		until(t, fmt.Sprintf("worker %d ends", pid), func() bool { return ended(pid) })
	}
}

func TestWorkerEndsWithItsLifeline(t *testing.T) {
	t.Parallel()
	socket, addr, err := openSocket("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	lifeline, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer lifeline.Close()
	worker := exec.Command(os.Args[0], "worker", addr)
	worker.Env = append(os.Environ(), asCommand+"=1")
	worker.ExtraFiles = []*os.File{socket, lifeline}
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = worker.Process.Kill() }()
	s := &service{addr: addr}
	s.answeredBy(t, worker.Process.Pid)
	hold.Close()
	if err := worker.Wait(); err != nil {
		t.Error("the worker ended with", err)
	}
}

func TestWorkersIgnoreHangup(t *testing.T) {
	t.Parallel()
	s := startService(t, 1)
	pid := s.startedWorkers(t, 1)[0]
	s.answeredBy(t, pid) // so it has got as far as ignoring it
	send(t, pid, syscall.SIGHUP)
	s.answeredBy(t, pid)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var ignored uint64
	if m := regexp.MustCompile(`SigIgn:\s*([0-9a-f]+)`).FindSubmatch(status); m != nil {
		_, _ = fmt.Sscanf(string(m[1]), "%x", &ignored)
	}
	if ignored&1 == 0 { // bit 0 is signal 1
		t.Errorf("SIGHUP is not ignored: SigIgn %x", ignored)
	}
}

// The experiments find the workers by this pattern.
func TestOnlyWorkersLookLikeWorkers(t *testing.T) {
	t.Parallel()
	s := startService(t, 2)
	pids := s.startedWorkers(t, 2)
	for _, pid := range pids {
		s.answeredBy(t, pid)
	}
	_, port, _ := strings.Cut(s.addr, ":")
	worker := regexp.MustCompile(`^quickstart worker \S+:` + port + `$`)
	for pid, want := range map[int]bool{pids[0]: true, pids[1]: true, s.Process.Pid: false} {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Join(strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00"), " ")
		if worker.MatchString(words) != want {
			t.Errorf("%q: looks like a worker: %v, want %v", words, !want, want)
		}
	}
}

// An inherited socket that is set to blocking would keep a worker in accept.
func TestSocketStaysNonBlocking(t *testing.T) {
	t.Parallel()
	s := startService(t, 2)
	pids := s.startedWorkers(t, 2)
	send(t, pids[0], syscall.SIGKILL)
	again := s.startedWorkers(t, 1)[0]
	s.answeredBy(t, again)
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", s.Process.Pid, s.socketFD(t)))
	if err != nil {
		t.Fatal(err)
	}
	var flags int
	if m := regexp.MustCompile(`flags:\s*([0-7]+)`).FindSubmatch(info); m != nil {
		_, _ = fmt.Sscanf(string(m[1]), "%o", &flags)
	}
	if flags&syscall.O_NONBLOCK == 0 {
		t.Errorf("the socket is set to blocking: flags 0%o", flags)
	}
}

// socketFD returns the supervisor's descriptor of the listening socket: its
// only one of a socket.
func (s *service) socketFD(t *testing.T) int {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", s.Process.Pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var fd int
		link, _ := os.Readlink(dir + "/" + e.Name())
		if _, err := fmt.Sscan(e.Name(), &fd); err == nil && fd > 2 && strings.HasPrefix(link, "socket:") {
			return fd
		}
	}
	t.Fatal("the supervisor has no socket")
	return 0
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"nothing":           {nil, "wrong usage"},
		"unknown command":   {[]string{"dance"}, "wrong usage"},
		"unknown flag":      {[]string{"serve", "--dance"}, "wrong usage"},
		"no workers":        {[]string{"serve", "--workers", "0"}, "wrong usage"},
		"a word too much":   {[]string{"serve", "now"}, "wrong usage"},
		"worker by hand":    {[]string{"worker"}, "a worker is started by: quickstart serve"},
		"address not to be": {[]string{"serve", "--listen", "127.0.0.1:http:x"}, "listen tcp: address 127.0.0.1:http:x: too many colons in address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := run(test.args, io.Discard); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}
