package op

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/stage"
)

// seccompFilter is a seccomp filter of a process.
type seccompFilter struct {
	program []unix.SockFilter
	flags   uint64 // SECCOMP_FILTER_FLAG_LOG
}

func encodeFilter(program []unix.SockFilter) []byte {
	var b []byte
	for _, i := range program {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b
}

// mostFilters is how many a process may have that a command takes on; each has
// at most mostInstructions (BPF_MAXINSNS).
const (
	mostFilters      = 16
	mostInstructions = 4096
	instruction      = 8 // bytes
)

// filtersOf reads the n seccomp filters of a process, the oldest first. Only a
// tracer is told (PTRACE_SECCOMP_GET_FILTER, ptrace(2)): a process of its own,
// so that nobody in this one who waits for a child takes the stop for its end.
// The target's main thread is stopped for the fraction of a millisecond that it
// takes. When the tracer ends, however it does, the kernel lets it go on.
func filtersOf(ctx context.Context, server *forkServer, fs proc.FS, p experiment.ProcessID, n int) ([]seccompFilter, error) {
	if n < 1 || n > mostFilters {
		return nil, fmt.Errorf("%s has %d seccomp filters, and 1 to %d can be read: %w (say where: beside)", p, n, mostFilters, experiment.ErrUnsupported)
	}
	t := newTracer(p.PID, n)
	list, err := t.run(ctx, server, fs, p)
	if err != nil {
		return nil, fmt.Errorf("read the seccomp filters of %s: %w", p, err)
	}
	return list, nil
}

// tracer is the program of a process that reads filters.
type tracer struct {
	stageProgram
	n int
}

// newTracer makes the program: it stops the target, says with which status,
// hears which signal the target was about to get, reads all into its data, lets
// the target go on with that signal, and sends what it has read.
func newTracer(pid, n int) *tracer {
	t := &tracer{n: n}
	t.diesWithUs()
	ws, signal := t.bytes(make([]byte, 8)), t.bytes(make([]byte, 8))
	t.do("trace it", unix.SYS_PTRACE, unix.PTRACE_SEIZE, pid, 0, 0)
	t.do("stop it", unix.SYS_PTRACE, unix.PTRACE_INTERRUPT, pid, 0, 0)
	t.do("wait until it stops", unix.SYS_WAIT4, pid, ws, unix.WALL, 0)
	t.do("say how it stopped", unix.SYS_WRITE, stageStatus, ws, 4)
	t.do("hear what to go on with", unix.SYS_RECVFROM, stageStatus, signal, 4, unix.MSG_WAITALL, 0, 0).Flags = stage.NonZero
	t.do("hear what to go on with", stage.CallLoad, signal).Out = lastReg
	size := t.bytes(make([]byte, n*filterSize))
	for i := range n {
		at := size + stageAddr(i*filterSize)
		const words = "read a filter (CONFIG_CHECKPOINT_RESTORE)"
		t.do(words, unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, pid, i, at+24).Out = lastReg - 1
		t.do(words, stage.CallStore, at, i)
		t.do(words, stage.CallStore, at+16, stageReg(lastReg-1))
		flags := t.do(words, unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_METADATA, pid, 16, at)
		flags.Allow = [2]uint16{uint16(unix.EIO), uint16(unix.EINVAL)}
	}
	t.do("let it go on", unix.SYS_PTRACE, unix.PTRACE_DETACH, pid, 0, stageReg(lastReg))
	for at := 0; at < n*filterSize; at += filterSize {
		t.do("send a filter", unix.SYS_SENDTO, stageStatus, size+stageAddr(at), filterSize, 0, 0, 0)
	}
	t.do("end", unix.SYS_EXIT_GROUP, 0)
	return t
}

// filterSize is a filter as the tracer sends it: struct seccomp_metadata (its
// number, and flags), how many instructions there are, and those.
const filterSize = 24 + mostInstructions*instruction

// run runs the tracer, and reads what it says.
func (t *tracer) run(ctx context.Context, server *forkServer, fs proc.FS, p experiment.ProcessID) ([]seccompFilter, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	defer unix.Close(pair[0])
	pid, err := server.fork(&t.stageProgram, pair[1])
	_ = unix.Close(pair[1])
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = unix.Kill(pid, unix.SIGKILL) // a child of ours, not reaped yet
		var ws unix.WaitStatus
		_ = wait4(pid, &ws)
	}()
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	setTimeout(ctx, pair[0])
	if err := t.goOn(fs, p, pair[0]); err != nil {
		return nil, err
	}
	var list []seccompFilter
	for range t.n {
		data := make([]byte, filterSize)
		if err := t.hear(pair[0], data); err != nil {
			return nil, err
		}
		list = append(list, decodeFilter(data))
	}
	return list, nil
}

// stopTime is how long a thread may take to stop.
const stopTime = 3 * time.Second

// goOn hears how the target stopped, and says which signal it is to go on
// with: it may have been about to get one, which is not to be lost.
func (t *tracer) goOn(fs proc.FS, p experiment.ProcessID, talk int) error {
	var word [4]byte
	if err := t.hear(talk, word[:]); err != nil {
		return err
	}
	if err := alive(fs, p); err != nil {
		return err
	}
	const eventStop = 128 // PTRACE_EVENT_STOP
	ws := unix.WaitStatus(binary.NativeEndian.Uint32(word[:]))
	signal := uint32(0)
	switch {
	case !ws.Stopped():
		return experiment.ErrGone
	case ws>>16 != eventStop:
		signal = uint32(ws.StopSignal())
	}
	binary.NativeEndian.PutUint32(word[:], signal)
	_, err := unix.Write(talk, word[:])
	return err
}

// hear reads what the tracer says: where it failed, or what is expected, which
// begins with the low byte of a wait status or of a filter's number, and so
// never with stage.Failed.
func (t *tracer) hear(talk int, b []byte) error {
	n, err := readAll(talk, b[:1])
	if err == nil && b[0] == stage.Failed {
		var word [8]byte
		if _, err := readAll(talk, word[:]); err != nil {
			return err
		}
		return t.failure(word)
	}
	if err == nil {
		_, err = readAll(talk, b[n:])
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("its main thread does not stop: it is frozen, or in an uninterruptible sleep")
	}
	return err
}

func decodeFilter(data []byte) seccompFilter {
	n := min(binary.NativeEndian.Uint64(data[16:]), mostInstructions)
	f := seccompFilter{program: make([]unix.SockFilter, n), flags: binary.NativeEndian.Uint64(data[8:])}
	for i := range f.program {
		at := data[24+i*instruction:]
		f.program[i] = unix.SockFilter{Code: binary.NativeEndian.Uint16(at), Jt: at[2], Jf: at[3], K: binary.NativeEndian.Uint32(at[4:])}
	}
	return f
}
