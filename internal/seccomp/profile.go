package seccomp

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/go-json-experiment/json"
	moby "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// retAction is the action half of a filter's return value, and the highest
// value of its other half (seccomp(2)).
const (
	retAction = 0xffff0000
	maxErrno  = 0xffff
)

// check reads a profile as its author wrote it, with all its conditional
// rules, and reports the first thing that is not known.
func check(text []byte) error {
	var p moby.Seccomp
	if err := json.Unmarshal(text, &p, json.RejectUnknownMembers(true)); err != nil {
		return placed(err)
	}
	if p.DefaultAction == "" {
		return errors.New("defaultAction: missing (to have no filter, say seccomp=unconfined)")
	}
	if len(p.Flags) > 0 || p.ListenerPath != "" || p.ListenerMetadata != "" {
		return errors.New("flags, listenerPath, listenerMetadata: not supported")
	}
	if _, err := returnValue(p.DefaultAction, p.DefaultErrnoRet); err != nil {
		return fmt.Errorf("defaultAction: %w", err)
	}
	known := knownCalls()
	for i, s := range p.Syscalls {
		if err := checkRule(s, known); err != nil {
			return fmt.Errorf("syscalls[%d]: %w", i, err)
		}
	}
	return nil
}

// placed says where in the profile err is, in the profile's words.
func placed(err error) error {
	var e *json.SemanticError
	if !errors.As(err, &e) || e.Err == nil {
		return err
	}
	return fmt.Errorf("%s: %w", cmp.Or(string(e.JSONPointer), "/"), e.Err)
}

func checkRule(s *moby.Syscall, known map[string]bool) error {
	if s == nil {
		return errors.New("null")
	}
	names := s.Names
	//lint:ignore SA1019 old profiles have it, and Docker takes them
	if old := s.Name; old != "" {
		names = append(slices.Clone(names), old)
	}
	if len(names) == 0 {
		return errors.New("names: missing")
	}
	for _, name := range names {
		if !known[name] {
			return fmt.Errorf("%q is no system call that Simian knows", name)
		}
	}
	if _, err := returnValue(s.Action, s.ErrnoRet); err != nil {
		return err
	}
	if _, err := conditions(s.Args); err != nil {
		return err
	}
	return errors.Join(checkFilter(s.Includes), checkFilter(s.Excludes))
}

func checkFilter(f *moby.Filter) error {
	if f == nil {
		return nil
	}
	return checkCaps(f.Caps)
}

// knownCalls has the names that some architecture has. Docker's profile names
// a few that the tables lack, of architectures that Simian does not run on.
func knownCalls() map[string]bool {
	known := map[string]bool{}
	for _, table := range []*arch.Info{arch.X86_64, arch.I386, arch.X32, arch.AARCH64, arch.ARM} {
		for name := range maps.Keys(table.SyscallNames) {
			known[name] = true
		}
	}
	for _, s := range moby.DefaultProfile().Syscalls {
		for _, name := range s.Names {
			known[name] = true
		}
	}
	return known
}

// returnValue is what a filter returns for an action. An errno is EPERM where
// the profile gives none.
func returnValue(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	switch a {
	case specs.ActAllow:
		return plain(unix.SECCOMP_RET_ALLOW, a, errno)
	case specs.ActLog:
		return plain(unix.SECCOMP_RET_LOG, a, errno)
	case specs.ActKill, specs.ActKillThread:
		return plain(unix.SECCOMP_RET_KILL_THREAD, a, errno)
	case specs.ActKillProcess:
		return plain(unix.SECCOMP_RET_KILL_PROCESS, a, errno)
	case specs.ActTrap:
		return plain(unix.SECCOMP_RET_TRAP, a, errno)
	case specs.ActErrno:
		return withErrno(unix.SECCOMP_RET_ERRNO, errno)
	case specs.ActTrace:
		return withErrno(unix.SECCOMP_RET_TRACE, errno)
	}
	return 0, fmt.Errorf("action %q: not supported", a)
}

func plain(ret uint32, a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	if errno != nil && *errno != 0 {
		return 0, fmt.Errorf("action %s has no errnoRet", a)
	}
	return ret, nil
}

func withErrno(ret uint32, errno *uint) (uint32, error) {
	switch {
	case errno == nil:
		return ret | uint32(unix.EPERM), nil
	case *errno > maxErrno:
		return 0, fmt.Errorf("errnoRet %d: want at most %d", *errno, maxErrno)
	}
	return ret | uint32(*errno), nil
}

// permissive tells whether a call may go on under ret.
func permissive(ret uint32) bool {
	return ret&retAction == unix.SECCOMP_RET_ALLOW || ret&retAction == unix.SECCOMP_RET_LOG
}
