package main

import (
	"bytes"
	"os/exec"
	"sync"
	"time"

	"github.com/simianhq/simian/internal/proc"
)

// process is a simian that goes on while a test does.
type process struct {
	lab      *lab
	cmd      *exec.Cmd
	out, err syncBuffer
	done     chan struct{} // closed when it has ended
}

// syncBuffer is a buffer that can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// waitState waits until the process is in this state (proc_pid_stat(5)).
func (p *process) waitState(want byte) {
	p.lab.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if st, err := proc.Host().Stat(p.cmd.Process.Pid); err == nil && st.State == want {
			return
		}
	}
	p.lab.t.Fatalf("the process does not come to state %c", want)
}
