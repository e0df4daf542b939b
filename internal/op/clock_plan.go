package op

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/vdso"
)

// ClockID names a shift: that of a run in a target.
func ClockID(run experiment.RunID, t experiment.Target) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "simian clock %s %s", run, t.ID)
	return max(h.Sum64(), 1) // 0 is nobody's
}

// ClockProgram names the BPF program of a shift.
func ClockProgram(run experiment.RunID, id uint64) string {
	return fmt.Sprintf("sm%s_%06x", run, id>>40)
}

// PlanClock reads the vDSO of a process, and says why its clock could not be
// shifted: ErrUnsupported, ErrBusy, ErrGone, or os.ErrPermission.
func PlanClock(fs proc.FS, id experiment.ProcessID, name string) (vdso.Image, error) {
	if !vdso.Able {
		return vdso.Image{}, fmt.Errorf("%w: %w", vdso.ErrProcessor, experiment.ErrUnsupported)
	}
	if !fs.Alive(id) {
		return vdso.Image{}, clockError(name, id, vdso.ErrGone)
	}
	if tracer := tracerOf(fs, id.PID); tracer != 0 {
		return vdso.Image{}, fmt.Errorf("%s (pid %d) is traced by pid %d: %w", name, id.PID, tracer, experiment.ErrBusy)
	}
	m, err := openVDSO(fs, id)
	if bits32(fs, id.PID) { // known once it is done with becoming a program
		if err == nil {
			m.Close()
		}
		return vdso.Image{}, fmt.Errorf("%s (pid %d) is a program of 32 bits, whose clock this Simian cannot shift: %w", name, id.PID, experiment.ErrUnsupported)
	}
	if err != nil && !fs.Alive(id) {
		err = vdso.ErrGone
	}
	if errors.Is(err, os.ErrPermission) {
		return vdso.Image{}, fmt.Errorf("read memory of %s (pid %d): %w: it needs root, or the user whose process it is", name, id.PID, err)
	}
	if err != nil {
		return vdso.Image{}, clockError(name, id, err)
	}
	defer m.Close()
	image, err := parseVDSO(m.At)
	if errors.Is(err, vdso.ErrOther) {
		return vdso.Image{}, clockError(name, id, err)
	}
	if err != nil {
		return vdso.Image{}, fmt.Errorf("%s (pid %d): %w: %w", name, id.PID, err, experiment.ErrUnsupported)
	}
	return image, nil
}

// execTime is how long execve(2) may take to write what a program is told of
// its vDSO, after the memory is the new one already.
const execTime = 100 * time.Millisecond

// openVDSO opens the memory of a process. One that is becoming another program
// is waited for.
func openVDSO(fs proc.FS, id experiment.ProcessID) (vdso.Memory, error) {
	for end := time.Now().Add(execTime); ; time.Sleep(time.Millisecond) {
		m, err := openAnyVDSO(fs, id)
		if !errors.Is(err, vdso.ErrNone) || time.Now().After(end) || !becoming(fs, id) {
			return m, err
		}
	}
}

// becoming tells whether a process has no auxiliary vector yet, or any more.
func becoming(fs proc.FS, id experiment.ProcessID) bool {
	data, err := os.ReadFile(fmt.Sprintf("%s/%d/auxv", fs.Proc, id.PID))
	st, gone := fs.Stat(id.PID)
	return err == nil && len(data) == 0 && gone == nil && !st.Kernel() && fs.Alive(id)
}

// openAnyVDSO opens the memory of a process, by a thread that lives.
func openAnyVDSO(fs proc.FS, id experiment.ProcessID) (vdso.Memory, error) {
	m, err := vdso.Open(fs.Proc, id.PID)
	if !errors.Is(err, vdso.ErrNone) {
		return m, err
	}
	threads, _ := fs.Threads(id.PID) // where the main one has exited, it has no memory
	for _, t := range threads {
		if t.PID != id.PID && !t.Exited() {
			return vdso.Open(fs.Proc, t.PID)
		}
	}
	return m, err
}

// tracerOf returns who traces a process, 0 for nobody.
func tracerOf(fs proc.FS, pid int) int {
	data, _ := os.ReadFile(fmt.Sprintf("%s/%d/status", fs.Proc, pid))
	_, rest, _ := strings.Cut(string(data), "\nTracerPid:")
	line, _, _ := strings.Cut(rest, "\n")
	tracer, _ := strconv.Atoi(strings.TrimSpace(line))
	return tracer
}

// bits32 tells whether a process has an auxiliary vector of 32-bit words: that
// of 64 bits has a number below 2^32 in every other word.
func bits32(fs proc.FS, pid int) bool {
	data, _ := os.ReadFile(fmt.Sprintf("%s/%d/auxv", fs.Proc, pid))
	for ; len(data) >= 16; data = data[16:] {
		if binary.LittleEndian.Uint32(data[4:]) != 0 {
			return true
		}
	}
	return false
}
