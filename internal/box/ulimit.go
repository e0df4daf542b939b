package box

import (
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// softFiles is how many files a process may open at first, as the kernel and
// systemd have it: programs that use select(2), or go through all possible
// files, rely on it. Those that need more raise it.
const softFiles = 1024

// rlimits are the resource limits by their names in Compose files (getrlimit(2)).
func rlimits() map[string]int {
	return map[string]int{
		"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
		"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
		"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
		"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
		"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
	}
}

// limits sets resource limits. What is not given stays as the launcher has it,
// but for the soft limit of open files, which Go has raised.
func (a *assembler) limits(list []Ulimit, maxFiles uint64) {
	if !slices.ContainsFunc(list, func(u Ulimit) bool { return u.Name == "nofile" }) {
		a.limit("set ulimit nofile", unix.RLIMIT_NOFILE, min(softFiles, maxFiles), maxFiles)
	}
	for _, u := range list {
		words := fmt.Sprintf("set ulimit %s=%s:%s", u.Name, limitText(u.Soft), limitText(u.Hard))
		kind, ok := rlimits()[u.Name]
		if !ok {
			a.fail(fmt.Errorf("%s: there is no such limit", words))
		}
		a.limit(words, kind, uint64(u.Soft), uint64(u.Hard)) // -1 is RLIM_INFINITY
	}
}

func (a *assembler) limit(words string, kind int, soft, hard uint64) {
	a.do(words, unix.SYS_PRLIMIT64, 0, kind, a.words64(soft, hard), 0)
}

func limitText(n int64) string {
	if n < 0 {
		return "unlimited"
	}
	return strconv.FormatInt(n, 10)
}
