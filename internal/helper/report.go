package helper

import (
	"os"
	"syscall"
	"unsafe"
)

// Report is what plain work tells of itself: the evidence that its parent
// shows.
type Report struct {
	Failed bool   `json:"failed,omitempty"` // it can't go on: the fault is not in force
	Felt   string `json:"felt,omitempty"`   // experiment.Felt: yes, no, nothing
	What   string `json:"what,omitempty"`   // what was measured, in one line
	Hint   string `json:"hint,omitempty"`
}

// pollfd is struct pollfd of poll(2).
type pollfd struct {
	fd      int32
	events  int16
	revents int16
}

const pollIn = 1

// EndWith ends this process, with all that it holds, once the process of pidfd
// has exited.
func EndWith(pidfd int) {
	go func() {
		for {
			p := pollfd{fd: int32(pidfd), events: pollIn}
			_, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, 0, 0, 0, 0)
			if errno == 0 && p.revents != 0 {
				os.Exit(0)
			}
			if errno != 0 && errno != syscall.EINTR {
				return
			}
		}
	}()
}
