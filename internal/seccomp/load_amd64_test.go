package seccomp

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestLoadKeepsWhatTheFileSays(t *testing.T) {
	t.Parallel()
	filter, err := Load("testdata/custom.json", dockerCaps)
	if err != nil {
		t.Fatal(err)
	}
	vm := machineOf(t, filter)
	errno := func(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }
	tests := map[string]struct {
		number uint32
		args   [6]uint64
		want   uint32
	}{
		"allowed":                             {number: unix.SYS_READ, want: unix.SECCOMP_RET_ALLOW},
		"default with its errno":              {number: unix.SYS_WRITE, want: errno(unix.EACCES)},
		"errno of its own":                    {number: unix.SYS_GETPID, want: errno(unix.EIO)},
		"errno 0 under a condition":           {number: unix.SYS_SETGID, args: [6]uint64{7}, want: unix.SECCOMP_RET_ERRNO},
		"trap":                                {number: unix.SYS_GETUID, want: unix.SECCOMP_RET_TRAP},
		"log":                                 {number: unix.SYS_GETGID, want: unix.SECCOMP_RET_LOG},
		"kill the process":                    {number: unix.SYS_GETEUID, want: unix.SECCOMP_RET_KILL_PROCESS},
		"trace":                               {number: unix.SYS_GETEGID, want: unix.SECCOMP_RET_TRACE | 5},
		"mask and value":                      {number: unix.SYS_SOCKET, args: [6]uint64{2, 0x80001}, want: unix.SECCOMP_RET_ALLOW},
		"mask and another value":              {number: unix.SYS_SOCKET, args: [6]uint64{2, 0x80003}, want: errno(unix.EACCES)},
		"one of two arguments":                {number: unix.SYS_SOCKET, args: [6]uint64{3, 0x80001}, want: errno(unix.EACCES)},
		"first of two rules":                  {number: unix.SYS_PERSONALITY, args: [6]uint64{5}, want: errno(unix.EIO)},
		"second of two rules":                 {number: unix.SYS_PERSONALITY, args: [6]uint64{50}, want: unix.SECCOMP_RET_ALLOW},
		"an argument twice is two rules":      {number: unix.SYS_DUP, args: [6]uint64{9}, want: unix.SECCOMP_RET_ALLOW},
		"an argument twice, neither":          {number: unix.SYS_DUP, args: [6]uint64{2}, want: errno(unix.EACCES)},
		"one without conditions stands":       {number: unix.SYS_FLOCK, args: [6]uint64{1}, want: unix.SECCOMP_RET_ALLOW},
		"included by a capability":            {number: unix.SYS_CHROOT, want: unix.SECCOMP_RET_ALLOW},
		"excluded by a capability":            {number: unix.SYS_MKNOD, want: errno(unix.EACCES)},
		"included by a capability it has not": {number: unix.SYS_REBOOT, want: errno(unix.EACCES)},
		"of a kernel that is still to come":   {number: unix.SYS_SYNC, want: errno(unix.EACCES)},
		"known, if only to be refused":        {number: 464, want: errno(unix.EACCES)},
		"newer than the profile":              {number: 466, want: errno(unix.ENOSYS)},
		"x32, which it has not":               {number: x32Bit, want: killed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := run(t, vm, call{unix.AUDIT_ARCH_X86_64, tt.number, tt.args}); got != tt.want {
				t.Errorf("got %#x, want %#x", got, tt.want)
			}
		})
	}
}

func TestLoadWithoutCallsBeyondAPermissiveDefault(t *testing.T) {
	t.Parallel()
	filter, err := Load("testdata/deny-list.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	vm := machineOf(t, filter)
	for number, want := range map[uint32]uint32{
		unix.SYS_KEYCTL: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM),
		unix.SYS_READ:   unix.SECCOMP_RET_ALLOW,
		600:             unix.SECCOMP_RET_ALLOW,
	} {
		if got := run(t, vm, call{audit: unix.AUDIT_ARCH_X86_64, number: number}); got != want {
			t.Errorf("call %d: %#x, want %#x", number, got, want)
		}
	}
}

// x32's table has some calls twice: a filter must not depend on which of
// them a map gives first.
func TestX32CallsHaveTheirOwnNumbers(t *testing.T) {
	t.Parallel()
	filter, err := Default(dockerCaps)
	if err != nil {
		t.Fatal(err)
	}
	vm := machineOf(t, filter)
	for number, want := range map[uint32]uint32{
		x32Bit | 514: unix.SECCOMP_RET_ALLOW,                      // ioctl
		x32Bit | 16:  unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), // x86_64's
		x32Bit:       unix.SECCOMP_RET_ALLOW,                      // read, which they share
	} {
		if got := run(t, vm, call{audit: unix.AUDIT_ARCH_X86_64, number: number}); got != want {
			t.Errorf("call %#x: %#x, want %#x", number, got, want)
		}
	}
}
