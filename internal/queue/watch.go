package queue

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

const sysPidfdOpen = 434 // pidfd_open(2), Linux 5.3

// watch ends this process once nobody is in the network namespace any more:
// the devices and sockets that are open here would keep it, and the other ends
// of its links, alive.
func watch(network uint64) {
	for {
		path := "/proc/"
		pid := someoneIn(network)
		switch {
		case pid > 0:
			path += strconv.Itoa(pid)
			awaitExit(pid, path+"/ns/net", network)
		case mounted(network):
			time.Sleep(200 * time.Millisecond)
		default:
			os.Exit(0)
		}
	}
}

// someoneIn returns a process in a network namespace, 0 where there is none.
func someoneIn(network uint64) int {
	dir, err := os.Open("/proc")
	if err != nil {
		return 0
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && inode("/proc/"+name+"/ns/net") == network {
			return pid
		}
	}
	return 0
}

func inode(path string) uint64 {
	var st syscall.Stat_t
	if syscall.Stat(path, &st) != nil {
		return 0
	}
	return st.Ino
}

// awaitExit waits until a process exits, or for a time where it can't wait for
// that: a kernel without pidfds, or a process that can't be its own.
func awaitExit(pid int, path string, network uint64) {
	fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(pid), 0, 0)
	if errno != 0 {
		time.Sleep(50 * time.Millisecond)
		return
	}
	defer syscall.Close(int(fd))
	if inode(path) != network {
		return // another process by now
	}
	poll := pollfd{fd: int32(fd), events: pollIn}
	second := syscall.NsecToTimespec(int64(time.Second)) // it may move to another namespace
	_, _, _ = syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&second)), 0, 0, 0)
}

// mounted tells whether a file is bound to the namespace (ip-netns(8)).
func mounted(network uint64) bool {
	table, _ := os.ReadFile("/proc/self/mountinfo")
	return bytes.Contains(table, []byte(" net:["+strconv.FormatUint(network, 10)+"] "))
}
