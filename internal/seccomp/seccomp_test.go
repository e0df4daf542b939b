package seccomp

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	moby "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// dockerCaps is what a container of Docker's may do by default.
var dockerCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// call is a system call as a filter sees it (struct seccomp_data).
type call struct {
	audit, number uint32
	args          [6]uint64
}

// bytes lays c out for the interpreter below, which reads words in network
// order: each word is turned, their order is that of a little-endian machine.
func (c call) bytes() []byte {
	out := make([]byte, 64)
	binary.BigEndian.PutUint32(out[0:], c.number)
	binary.BigEndian.PutUint32(out[4:], c.audit)
	for i, a := range c.args {
		binary.BigEndian.PutUint32(out[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(out[20+8*i:], uint32(a>>32))
	}
	return out
}

// run interprets filter, so that it can be asked about calls that no test
// could make, and those of other machines.
func run(t *testing.T, vm *bpf.VM, c call) uint32 {
	t.Helper()
	ret, err := vm.Run(c.bytes())
	if err != nil {
		t.Fatal(err)
	}
	return uint32(ret)
}

func machineOf(t *testing.T, filter []unix.SockFilter) *bpf.VM {
	t.Helper()
	code := make([]bpf.RawInstruction, len(filter))
	for i, f := range filter {
		code[i] = bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	program, ok := bpf.Disassemble(code)
	if !ok {
		t.Fatal("some instructions are none")
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// TestFilterMeansTheProfile asks a compiled filter about every number of every
// architecture, with arguments on both sides of each comparison, and holds
// the answer against a plain reading of the profile.
func TestFilterMeansTheProfile(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		goarch string
		arches []specs.Arch
		caps   []string
	}{
		"docker's capabilities":   {"amd64", []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}, dockerCaps},
		"no capability":           {"amd64", []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}, nil},
		"administrator":           {"amd64", []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}, append(dockerCaps, "CAP_SYS_ADMIN")},
		"without 32-bit programs": {"amd64", []specs.Arch{specs.ArchX86_64}, dockerCaps},
		"arm64":                   {"arm64", []specs.Arch{specs.ArchAARCH64, specs.ArchARM}, dockerCaps},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, err := specFor(tt.caps)
			if err != nil {
				t.Fatal(err)
			}
			p, err := moby.GetDefaultProfile(spec)
			if err != nil {
				t.Fatal(err)
			}
			p.Architectures = tt.arches
			holdAgainstProfile(t, p, tt.goarch)
		})
	}
}

func holdAgainstProfile(t *testing.T, p *specs.LinuxSeccomp, goarch string) {
	t.Helper()
	filter, err := compile(p, goarch)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions", len(filter))
	machines, err := machinesOf(goarch)
	if err != nil {
		t.Fatal(err)
	}
	vm := machineOf(t, filter)
	for _, m := range machines {
		for _, a := range m.abis {
			for n := a.first; n < a.first+700; n++ {
				holdCall(t, vm, p, a, call{audit: m.audit, number: n})
			}
			holdCall(t, vm, p, a, call{audit: m.audit, number: a.last})
		}
	}
	if got := run(t, vm, call{audit: unix.AUDIT_ARCH_S390X, number: 1}); got != killed {
		t.Errorf("another machine's call: %#x, want %#x", got, uint32(killed))
	}
}

// samples are arguments around those that Docker's profile compares.
func samples() []uint64 {
	out := []uint64{0, 8, 9, 37, 38, 39, 40, 41, 45, 46, 131072, 131080, 4294967295, 1<<32 | 39, 1 << 33, 1<<63 | 2, 0x00020000, 17}
	for bit := range 64 {
		out = append(out, 1<<bit, 1<<bit|17)
	}
	return out
}

func holdCall(t *testing.T, vm *bpf.VM, p *specs.LinuxSeccomp, a abi, c call) {
	t.Helper()
	values := []uint64{0}
	if comparedIn(p, a.table.SyscallNumbers[int(c.number)&^a.table.SeccompMask]) {
		values = samples()
	}
	for _, v := range values {
		c.args[0], c.args[1] = v, ^v
		if got, want := run(t, vm, c), reading(p, a, c); got != want {
			t.Fatalf("%s call %d (%s), argument %#x: %#x, want %#x", a.name, c.number, a.table.SyscallNumbers[int(c.number)], v, got, want)
		}
	}
}

func comparedIn(p *specs.LinuxSeccomp, name string) bool {
	for _, s := range p.Syscalls {
		if len(s.Args) > 0 && contains(s.Names, name) {
			return true
		}
	}
	return false
}

// reading is what the profile says of a call, read rule by rule.
func reading(p *specs.LinuxSeccomp, a abi, c call) uint32 {
	if !contains(p.Architectures, a.name) {
		return killed
	}
	var last uint32
	for _, s := range p.Syscalls {
		for _, name := range s.Names {
			n, ok := a.number(name)
			if !ok {
				continue
			}
			last = max(last, n)
			if n == c.number && holds(s.Args, c) {
				ret, _ := returnValue(s.Action, s.ErrnoRet)
				return ret
			}
		}
	}
	if c.number > last {
		return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	return unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
}

func holds(args []specs.LinuxSeccompArg, c call) bool {
	for _, a := range args {
		got := c.args[a.Index]
		ok := map[specs.LinuxSeccompOperator]bool{
			specs.OpNotEqual: got != a.Value, specs.OpEqualTo: got == a.Value,
			specs.OpLessThan: got < a.Value, specs.OpLessEqual: got <= a.Value,
			specs.OpGreaterThan: got > a.Value, specs.OpGreaterEqual: got >= a.Value,
			specs.OpMaskedEqual: got&a.Value == a.ValueTwo,
		}[a.Op]
		if !ok {
			return false
		}
	}
	return true
}

func contains[T comparable](list []T, x T) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}

func TestLoadReportsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/invalid-*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(strings.TrimSuffix(file, ".json") + ".error")
			if err != nil {
				t.Fatal(err)
			}
			_, err = Load(file, dockerCaps)
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(strings.TrimSpace(string(want)), strings.ReplaceAll(err.Error(), "\u00a0", " " /* the JSON library says it with either */)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestLoadReportsFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := filepath.Join(dir, "big.json")
	if err := os.WriteFile(big, []byte(strings.Repeat(" ", maxProfileBytes+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ path, want string }{
		"too long": {big, "more than 1048576 bytes"},
		"a folder": {dir, "not a regular file"},
		"a FIFO":   {fifo, "not a regular file"},
		"none":     {filepath.Join(dir, "none"), "no such file or directory"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Load(tt.path, nil)
			if want := "read seccomp profile " + tt.path + ": " + tt.want; err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func TestDefaultReportsCapabilities(t *testing.T) {
	t.Parallel()
	_, err := Default([]string{"SYS_ADMIN"})
	if want := `compile default seccomp profile: capability "SYS_ADMIN": want a name such as CAP_SYS_ADMIN`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func BenchmarkDefault(b *testing.B) {
	for b.Loop() {
		if _, err := Default(dockerCaps); err != nil {
			b.Fatal(err)
		}
	}
}
