// Command ia32 is built for 386, whose system calls come in by int 0x80, and
// prints what a filter answers to some of them.
package main

import (
	"fmt"
	"os"
	"syscall"
)

// Numbers of the 386 table that another call has on x86_64.
const (
	getpid  = 20
	mount   = 21
	keyctl  = 288
	unshare = 310
	clone3  = 435
	unknown = 600
)

func main() {
	for _, c := range []struct {
		name   string
		number uintptr
		args   [2]uintptr
	}{
		{"getpid", getpid, [2]uintptr{}},
		{"mount", mount, [2]uintptr{}},
		{"keyctl", keyctl, [2]uintptr{}},
		{"unshare", unshare, [2]uintptr{syscall.CLONE_NEWUSER}},
		{"clone3", clone3, [2]uintptr{}},
		{"unknown", unknown, [2]uintptr{}},
	} {
		_, _, errno := syscall.RawSyscall(c.number, c.args[0], c.args[1], 0)
		fmt.Println(c.name, uintptr(errno))
	}
	os.Exit(0)
}
