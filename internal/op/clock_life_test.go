package op

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// shell is a shell that does what it is told, line by line.
type shell struct {
	id     experiment.ProcessID
	cmd    *exec.Cmd
	in     io.Writer
	answer *bufio.Reader
}

func newShell(t *testing.T) *shell {
	t.Helper()
	cmd := exec.Command("sh")
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s := &shell{cmd: cmd, in: in, answer: bufio.NewReader(out)}
	s.do(t, "echo ready")
	s.id, err = host.Identify(cmd.Process.Pid)
	must(t, err)
	return s
}

func (s *shell) do(t *testing.T, line string) string {
	t.Helper()
	_, err := fmt.Fprintln(s.in, line)
	must(t, err)
	answer, err := s.answer.ReadString('\n')
	must(t, err)
	return strings.TrimSpace(answer)
}

// TestClockForked puts back the clock of a child that was forked meanwhile,
// though its parent is gone.
func TestClockForked(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	untouched := vdsoOf(t, s.id)
	step := shiftOf(t, NewHost(host), time.Hour, s.id)
	must(t, step.Do.Apply(t.Context()))
	var pid int
	_, err := fmt.Sscan(s.do(t, "(while :; do read x < /dev/null; done) & echo $!"), &pid)
	must(t, err)
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	child, err := host.Identify(pid)
	must(t, err)
	if vdsoOf(t, child) == untouched {
		t.Error("the child has the host's time of day")
	}
	must(t, s.cmd.Process.Kill())
	_ = s.cmd.Wait()
	must(t, step.Undo.Apply(t.Context()))
	if vdsoOf(t, child) != untouched || !host.Alive(child) {
		t.Error("the child's vDSO is not as it was")
	}
}

// TestClockExec follows a process that becomes another program.
func TestClockExec(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	step := shiftOf(t, NewHost(host), time.Hour, s.id)
	must(t, step.Do.Apply(t.Context()))
	_, err := fmt.Fprintln(s.in, "exec sleep 60")
	must(t, err)
	verify := func() bool {
		e, err := step.Do.(experiment.Verifier).Verify(t.Context())
		return err == nil && e.InForce
	}
	await(t, "another program", func() bool { return !verify() })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- step.Do.(experiment.Follower).Follow(ctx) }()
	await(t, "its clock", verify)
	stop()
	must(t, <-ended)
	must(t, step.Undo.Apply(t.Context()))
	if e, err := step.Undo.(experiment.Verifier).Verify(t.Context()); err != nil || !e.InForce {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestClockRestless shifts the clock of a program that becomes another one all
// the time, by whichever thread: that waits for all others to end, also those
// that are held.
func TestClockRestless(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victimEnv+"=exec")
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	id, err := host.Identify(cmd.Process.Pid)
	must(t, err)
	await(t, "the program", func() bool { threads, err := host.Threads(id.PID); return err == nil && len(threads) > 4 })
	step := shiftOf(t, NewHost(host), time.Hour, id)
	done := 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		ctx := within(t, 500*time.Millisecond)
		if err := step.Do.Apply(ctx); err == nil {
			done++
		}
		must(t, errors.Join(step.Undo.Apply(within(t, 5*time.Second))))
	}
	if done == 0 || !host.Alive(id) {
		t.Errorf("%d times, alive: %v", done, host.Alive(id))
	}
	t.Logf("shifted %d times", done)
}

// TestClockStopped leaves a stopped process stopped, and its parent unaware.
func TestClockStopped(t *testing.T) {
	t.Parallel()
	p := newClockPrey(t, "2")
	must(t, unix.Kill(p.id.PID, unix.SIGSTOP))
	await(t, "stop", func() bool { return p.state() == "T" })
	var status unix.WaitStatus
	_, err := unix.Wait4(p.id.PID, &status, unix.WUNTRACED, nil) // of our own stop
	must(t, err)
	step := shiftOf(t, NewHost(host), time.Hour, p.id)
	for _, do := range []experiment.Op{step.Do, step.Undo, step.Do} {
		must(t, do.Apply(t.Context()))
		await(t, "stop", func() bool { return p.state() == "T" })
	}
	if pid, err := unix.Wait4(p.id.PID, &status, unix.WUNTRACED|unix.WCONTINUED|unix.WNOHANG, nil); pid != 0 || err != nil {
		t.Errorf("its parent was told: %d, %v", pid, err)
	}
	must(t, unix.Kill(p.id.PID, unix.SIGCONT))
	checkReading(t, p, time.Hour)
	must(t, step.Undo.Apply(t.Context()))
	checkReading(t, p, 0)
}

// TestClockKilled kills who shifts and puts back, wherever that is, and takes
// it back from here: nothing may be left, and the target must not notice.
func TestClockKilled(t *testing.T) {
	t.Parallel()
	p := newClockPrey(t, "3")
	untouched := vdsoOf(t, p.id)
	h := NewHost(host)
	step := shiftOf(t, h, time.Hour, p.id)
	line, err := experiment.Codec{Ops: h.Ops()}.Marshal(&experiment.Event{Kind: experiment.EventAnnounce, Steps: []experiment.PlannedStep{{N: 1, Target: "t", Step: step}}})
	must(t, err)
	partly, rounds := 0, 0
	for end := time.Now().Add(15 * time.Second); rounds < 40 && time.Now().Before(end); rounds++ {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), victimEnv+"=apply")
		cmd.Stdin = strings.NewReader(string(line))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		_, err = out.Read(make([]byte, 8))
		must(t, err)
		time.Sleep(rand.N(8 * time.Millisecond))
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		if vdsoOf(t, p.id) != untouched {
			partly++
		}
		must(t, step.Undo.Apply(t.Context()))
		if vdsoOf(t, p.id) != untouched {
			t.Fatal("its vDSO is not as it was")
		}
		checkReading(t, p, 0)
	}
	t.Logf("found shifted, or partly, %d of %d times", partly, rounds)
}

// applyForEver does and undoes a step that it reads.
func applyForEver() error {
	h := NewHost(host)
	line, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var e experiment.Event
	if err := (experiment.Codec{Ops: h.Ops()}).Decoder()(line, &e); err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		if err := e.Steps[0].Do.Apply(context.Background()); err != nil {
			return err
		}
		if err := e.Steps[0].Undo.Apply(context.Background()); err != nil {
			return err
		}
	}
}

// TestClockRefused meets what can't be shifted.
func TestClockRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		id   func(t *testing.T) experiment.ProcessID
		want error
		says string
	}{
		{"traced", tracedPrey, experiment.ErrBusy, "is traced by pid"},
		{"zombie", zombie, experiment.ErrGone, ""},
		{"another start time", func(t *testing.T) experiment.ProcessID {
			id := newPrey(t).id
			id.Start++
			return id
		}, experiment.ErrGone, ""},
		{"32 bits", prey32, experiment.ErrUnsupported, "32 bits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := PlanClock(host, c.id(t), "web")
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("it gives %v", err)
			}
		})
	}
}

// tracedPrey is held by a thread of this process, as by a debugger.
func tracedPrey(t *testing.T) experiment.ProcessID {
	p := newPrey(t)
	ready, end := make(chan error), make(chan bool)
	go func() {
		runtime.LockOSThread() // and ends with it
		ready <- unix.PtraceSeize(p.id.PID)
		<-end
	}()
	must(t, <-ready)
	t.Cleanup(func() { close(end) })
	return p.id
}

func zombie(t *testing.T) experiment.ProcessID {
	p := newPrey(t)
	must(t, p.cmd.Process.Kill())
	await(t, "its end", func() bool { return p.state() == "Z" })
	return p.id
}

// prey32 runs a program of 32 bits, which does nothing but pause.
func prey32(t *testing.T) experiment.ProcessID {
	const program = "\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00" + // header
		"\x02\x00\x03\x00\x01\x00\x00\x00\x54\x80\x04\x08\x34\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x34\x00\x20\x00\x01\x00\x00\x00\x00\x00\x00\x00" +
		"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x80\x04\x08\x00\x80\x04\x08\x5d\x00\x00\x00\x5d\x00\x00\x00\x05\x00\x00\x00\x00\x10\x00\x00" + // its only segment
		"\xb8\x1d\x00\x00\x00\xcd\x80\xeb\xf7" // mov eax, pause; int 0x80; jmp
	path := t.TempDir() + "/pause32"
	syscall.ForkLock.RLock() // another's child, not a program yet, would hold it open for writing
	err := os.WriteFile(path, []byte(program), 0o755)
	syscall.ForkLock.RUnlock()
	must(t, err)
	cmd := exec.Command(path)
	if err := cmd.Start(); errors.Is(err, unix.ENOEXEC) {
		t.Skip("this kernel runs no programs of 32 bits")
	} else {
		must(t, err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	await(t, "the program", func() bool { return bits32(host, cmd.Process.Pid) })
	id, err := host.Identify(cmd.Process.Pid)
	must(t, err)
	return id
}
