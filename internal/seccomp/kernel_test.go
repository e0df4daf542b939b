package seccomp

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary a child that puts itself under the filter:
// its value is the bounding set to compile for.
const childEnv = "SIMIAN_TEST_SECCOMP_CAPS"

func TestMain(m *testing.M) {
	caps, child := os.LookupEnv(childEnv)
	if !child {
		os.Exit(m.Run())
	}
	if err := underFilter(strings.Fields(caps), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// underFilter installs the default filter and makes the attempts, or runs
// another program.
func underFilter(caps, program []string) error {
	filter, err := Default(caps)
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if len(program) > 0 {
		return unix.Exec(program[0], program, nil)
	}
	for _, a := range attempts() {
		_, _, errno := unix.RawSyscall6(a.number, a.args[0], a.args[1], a.args[2], a.args[3], a.args[4], 0)
		fmt.Println(a.name, uintptr(errno))
	}
	return nil
}

// attempt is a system call that does nothing where it is let through: its
// arguments are no good.
type attempt struct {
	name    string
	number  uintptr
	args    [5]uintptr
	want    unix.Errno // with Docker's capabilities
	asAdmin unix.Errno // with CAP_SYS_ADMIN besides
}

const (
	through  = unix.Errno(0)    // any answer but those of the filter
	noThread = 0xffffffff       // a pid that nobody has
	noRandom = uintptr(0x40000) // ADDR_NO_RANDOMIZE
	query    = uintptr(0xffffffff)
)

func attempts() []attempt {
	no, missing := unix.EPERM, unix.ENOSYS
	return []attempt{
		{"getpid", unix.SYS_GETPID, [5]uintptr{}, through, through},
		{"openat2", unix.SYS_OPENAT2, [5]uintptr{}, through, through},
		{"unshare of a user namespace", unix.SYS_UNSHARE, [5]uintptr{unix.CLONE_NEWUSER}, no, through},
		{"clone of a user namespace", unix.SYS_CLONE, [5]uintptr{unix.CLONE_NEWUSER | unix.CLONE_THREAD}, no, through},
		{"clone of half a thread", unix.SYS_CLONE, [5]uintptr{unix.CLONE_THREAD}, through, through},
		{"clone3", unix.SYS_CLONE3, [5]uintptr{}, missing, through},
		{"setns", unix.SYS_SETNS, [5]uintptr{query}, no, through},
		{"keyctl", unix.SYS_KEYCTL, [5]uintptr{query}, no, no},
		{"add_key", unix.SYS_ADD_KEY, [5]uintptr{}, no, no},
		{"request_key", unix.SYS_REQUEST_KEY, [5]uintptr{}, no, no},
		{"bpf", unix.SYS_BPF, [5]uintptr{query}, no, through},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, [5]uintptr{}, no, through},
		{"userfaultfd", unix.SYS_USERFAULTFD, [5]uintptr{query}, no, no},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, [5]uintptr{}, no, no},
		{"mount", unix.SYS_MOUNT, [5]uintptr{}, no, through},
		{"umount2", unix.SYS_UMOUNT2, [5]uintptr{}, no, through},
		{"pivot_root", unix.SYS_PIVOT_ROOT, [5]uintptr{}, no, no},
		{"open_tree", unix.SYS_OPEN_TREE, [5]uintptr{query}, no, through},
		{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, [5]uintptr{query}, no, no},
		{"name_to_handle_at", unix.SYS_NAME_TO_HANDLE_AT, [5]uintptr{query}, through, through},
		{"init_module", unix.SYS_INIT_MODULE, [5]uintptr{}, no, no},
		{"finit_module", unix.SYS_FINIT_MODULE, [5]uintptr{query}, no, no},
		{"delete_module", unix.SYS_DELETE_MODULE, [5]uintptr{}, no, no},
		{"kexec_load", unix.SYS_KEXEC_LOAD, [5]uintptr{0, 0, 0, query}, no, no},
		{"reboot", unix.SYS_REBOOT, [5]uintptr{}, no, no},
		{"swapon", unix.SYS_SWAPON, [5]uintptr{}, no, no},
		{"acct", unix.SYS_ACCT, [5]uintptr{1}, no, no},
		{"quotactl", unix.SYS_QUOTACTL, [5]uintptr{query}, no, through},
		{"syslog", unix.SYS_SYSLOG, [5]uintptr{query}, no, through},
		{"sethostname", unix.SYS_SETHOSTNAME, [5]uintptr{0, query}, no, through},
		{"clock_settime", unix.SYS_CLOCK_SETTIME, [5]uintptr{query}, no, no},
		{"chroot", unix.SYS_CHROOT, [5]uintptr{}, through, through},
		{"ptrace", unix.SYS_PTRACE, [5]uintptr{unix.PTRACE_PEEKDATA, noThread}, through, through},
		{"process_vm_readv", unix.SYS_PROCESS_VM_READV, [5]uintptr{noThread}, through, through},
		{"kcmp", unix.SYS_KCMP, [5]uintptr{noThread, noThread}, no, no},
		{"personality, asked for", unix.SYS_PERSONALITY, [5]uintptr{query}, through, through},
		{"personality without randomising", unix.SYS_PERSONALITY, [5]uintptr{noRandom}, no, no},
		{"socket of AF_UNIX", unix.SYS_SOCKET, [5]uintptr{unix.AF_UNIX, query}, through, through},
		{"socket of AF_ALG", unix.SYS_SOCKET, [5]uintptr{unix.AF_ALG, query}, no, no},
		{"socket of AF_VSOCK", unix.SYS_SOCKET, [5]uintptr{unix.AF_VSOCK, query}, no, no},
		{"socket of AF_KCM", unix.SYS_SOCKET, [5]uintptr{unix.AF_KCM, query}, through, through},
		{"number 600", 600, [5]uintptr{}, missing, missing},
		{"the last number", 1<<30 - 1, [5]uintptr{}, missing, missing},
	}
}

// child runs this test binary under the filter and returns the errno of each
// attempt that it prints.
func child(t *testing.T, caps []string, program ...string) map[string]unix.Errno {
	t.Helper()
	cmd := exec.Command(os.Args[0], program...)
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(caps, " "))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("child: %v\n%s%s", err, text, stderr.String())
	}
	got := map[string]unix.Errno{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		n, err := strconv.Atoi(line[i+1:])
		if err != nil {
			t.Fatalf("child: %q", line)
		}
		got[line[:i]] = unix.Errno(n)
	}
	return got
}

func isWanted(got, want unix.Errno) bool {
	if want == through {
		return got != unix.EPERM && got != unix.ENOSYS
	}
	return got == want
}

func TestKernelTakesTheFilter(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		caps []string
		want func(attempt) unix.Errno
	}{
		"docker's capabilities": {dockerCaps, func(a attempt) unix.Errno { return a.want }},
		"administrator":         {append([]string{"CAP_SYS_ADMIN"}, dockerCaps...), func(a attempt) unix.Errno { return a.asAdmin }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := child(t, tt.caps)
			for _, a := range attempts() {
				errno, ok := got[a.name]
				if !ok || !isWanted(errno, tt.want(a)) {
					t.Errorf("%s: %d (%v), want %d", a.name, errno, ok, tt.want(a))
				}
			}
		})
	}
}

func TestKernelTakesTheFilterFor32BitPrograms(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("only amd64 runs programs for 386")
	}
	gotool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command to build a program for 386 with")
	}
	program := filepath.Join(t.TempDir(), "ia32")
	build := exec.Command(gotool, "build", "-o", program, "./testdata/ia32")
	build.Env = append(os.Environ(), "GOARCH=386", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if err := exec.Command(program).Run(); err != nil {
		t.Skipf("this kernel runs no programs for 386: %v", err)
	}
	got := child(t, dockerCaps, program)
	for name, want := range map[string]unix.Errno{
		"getpid": through, "mount": unix.EPERM, "keyctl": unix.EPERM,
		"unshare": unix.EPERM, "clone3": unix.ENOSYS, "unknown": unix.ENOSYS,
	} {
		if errno, ok := got[name]; !ok || !isWanted(errno, want) {
			t.Errorf("%s: %d (%v), want %d", name, errno, ok, want)
		}
	}
}
