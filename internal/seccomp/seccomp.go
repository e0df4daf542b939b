// Package seccomp compiles Docker's seccomp profiles to what seccomp(2) takes:
// the default one, and files in its format.
//
//	profile ─select▶ rules that hold here ─verdicts▶ number → verdict ─assemble▶ classic BPF
//	         caps, kernel, arch            per ABI                      a tree
//
// Each audit architecture gets a tree of comparisons over the system call's
// number, so that a call costs about ten instructions, and the kernel, which
// runs the filter once for each number when it is installed (5.11 and newer
// remember what is always allowed), is done in microseconds.
package seccomp

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	moby "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// maxProfileBytes is how long a profile may be. Docker's own has 14 KiB.
const maxProfileBytes = 1 << 20

// Default compiles Docker's default profile for a process whose bounding set
// is caps (CAP_SYS_ADMIN …). The result is ready for seccomp(2) with
// SECCOMP_SET_MODE_FILTER; compiling takes well under a millisecond.
func Default(caps []string) ([]unix.SockFilter, error) {
	spec, err := specFor(caps)
	if err != nil {
		return nil, fmt.Errorf("compile default seccomp profile: %w", err)
	}
	p, err := moby.GetDefaultProfile(spec)
	if err != nil {
		return nil, fmt.Errorf("compile default seccomp profile: %w", err)
	}
	filter, err := compile(p, runtime.GOARCH)
	if err != nil {
		return nil, fmt.Errorf("compile default seccomp profile: %w", err)
	}
	return filter, nil
}

// Load compiles the profile in a file of Docker's JSON format
// (security_opt: seccomp=FILE) for a process whose bounding set is caps. What
// Docker would pass over, such as an unknown field or the name of a system
// call that no architecture has, is an error here: a profile that says
// something else than its author means is worse than none.
func Load(path string, caps []string) ([]unix.SockFilter, error) {
	filter, err := load(path, caps)
	if err != nil {
		return nil, fmt.Errorf("read seccomp profile %s: %w", path, err)
	}
	return filter, nil
}

func load(path string, caps []string) ([]unix.SockFilter, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	if err := check(text); err != nil {
		return nil, err
	}
	spec, err := specFor(caps)
	if err != nil {
		return nil, err
	}
	p, err := moby.LoadProfile(string(text), spec)
	if err != nil {
		return nil, err
	}
	return compile(p, runtime.GOARCH)
}

// readFile reads a regular file. A FIFO would wait for its writer for ever.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, bare(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, bare(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a regular file")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxProfileBytes+1))
	if err != nil {
		return nil, bare(err)
	}
	if len(text) > maxProfileBytes {
		return nil, fmt.Errorf("more than %d bytes", maxProfileBytes)
	}
	return text, nil
}

// bare drops the path from err, which its caller names.
func bare(err error) error {
	if pe, ok := err.(*os.PathError); ok {
		return pe.Err
	}
	return err
}

// specFor is the little of an OCI spec that the profile's conditions look at.
func specFor(caps []string) (*specs.Spec, error) {
	if err := checkCaps(caps); err != nil {
		return nil, err
	}
	return &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}}, nil
}

// checkCaps reports what can't be a capability: it would silently never match.
func checkCaps(caps []string) error {
	for _, c := range caps {
		if !strings.HasPrefix(c, "CAP_") || c != strings.ToUpper(c) {
			return fmt.Errorf("capability %q: want a name such as CAP_SYS_ADMIN", c)
		}
	}
	return nil
}
