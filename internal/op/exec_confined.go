package op

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// confined is what the target's first process is and may do: a command inside
// is and may do no more.
type confined struct {
	kinds      int      // namespaces that it has of its own, without that of pids
	pids       bool     // it has a PID namespace of its own
	env        []string // as it was started with
	umask      int
	uids, gids [3]int // real, effective, saved, in its user namespace
	groups     []uint32

	bound, permitted, effective, inheritable, ambient uint64 // capabilities
	lastCap                                           int
	noNewPrivs                                        bool
	seccomp, filtered                                 int // its mode: 0, 1 or 2; how many filters
	filters                                           []seccompFilter
	label                                             string // what its security module is told to make of the command; "" for nothing
	limits                                            map[int]unix.Rlimit
}

// namespaceKinds are the flags of clone(2) for the files in /proc/PID/ns.
func namespaceKinds(where string) map[string]int {
	kinds := map[string]int{"net": unix.CLONE_NEWNET, "ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS}
	if where == Inside {
		kinds["mnt"], kinds["user"] = unix.CLONE_NEWNS, unix.CLONE_NEWUSER
		kinds["cgroup"], kinds["time"] = unix.CLONE_NEWCGROUP, unix.CLONE_NEWTIME
	}
	return kinds
}

// foreign tells whether a process is in another namespace of a kind than this
// one. A kernel without that kind has none.
func foreign(fs proc.FS, pid int, kind string) (bool, error) {
	own, err := os.Readlink(filepath.Join(fs.Proc, "self/ns", kind))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	theirs, err2 := os.Readlink(filepath.Join(fs.Proc, strconv.Itoa(pid), "ns", kind))
	if err := errors.Join(err, err2); err != nil {
		return false, fmt.Errorf("read namespace %s of pid %d: %w", kind, pid, err)
	}
	return own != theirs, nil
}

// confinedOf reads what a process is, but for its filters.
func confinedOf(fs proc.FS, p experiment.ProcessID, where string) (*confined, error) {
	c := &confined{umask: 0o022}
	for kind, flag := range namespaceKinds(where) {
		other, err := foreign(fs, p.PID, kind)
		if err != nil {
			return nil, err
		}
		if other {
			c.kinds |= flag
		}
	}
	var err error
	if c.pids, err = foreign(fs, p.PID, "pid"); err != nil {
		return nil, err
	}
	if where == Beside {
		c.env = []string{"PATH=" + defaultPath, "HOME=/root", fmt.Sprintf("SIMIAN_PID=%d", p.PID)}
		return c, alive(fs, p)
	}
	if err := c.read(fs, p.PID); err != nil {
		return nil, fmt.Errorf("read what %s may do: %w", p, err)
	}
	return c, alive(fs, p)
}

func alive(fs proc.FS, p experiment.ProcessID) error {
	if !fs.Alive(p) {
		return fmt.Errorf("%s: %w", p, experiment.ErrGone)
	}
	return nil
}

func (c *confined) read(fs proc.FS, pid int) error {
	file := func(name string) string { return filepath.Join(fs.Proc, strconv.Itoa(pid), name) }
	text, err := os.ReadFile(file("status"))
	if err != nil {
		return err
	}
	env, err := os.ReadFile(file("environ"))
	if err != nil {
		return err
	}
	c.env = append([]string{"PATH=" + defaultPath}, strings.FieldsFunc(string(env), func(r rune) bool { return r == 0 })...)
	if strings.Contains("\x00"+string(env), "\x00PATH=") {
		c.env = c.env[1:]
	}
	if err := c.parse(string(text)); err != nil {
		return err
	}
	if c.kinds&unix.CLONE_NEWUSER != 0 {
		if err := c.mapUsers(file("uid_map"), file("gid_map")); err != nil {
			return err
		}
	}
	limits, err := os.ReadFile(file("limits"))
	if err != nil {
		return err
	}
	if err := c.parseLimits(string(limits)); err != nil {
		return err
	}
	c.label = labelOf(file("attr/current"), filepath.Join(fs.Proc, "self/attr/current"))
	last, err := readNumber(filepath.Join(fs.Proc, "sys/kernel/cap_last_cap"))
	c.lastCap = int(min(last, 63))
	return err
}

// parse reads proc_pid_status(5).
func (c *confined) parse(text string) error {
	lines := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		lines[key] = strings.TrimSpace(value)
	}
	var errs []error
	number := func(text string, base int) uint64 {
		n, err := strconv.ParseUint(text, base, 64)
		errs = append(errs, err)
		return n
	}
	for i := range 3 {
		c.uids[i] = int(number(strings.Fields(lines["Uid"] + " ? ? ?")[i], 10))
		c.gids[i] = int(number(strings.Fields(lines["Gid"] + " ? ? ?")[i], 10))
	}
	for word := range strings.FieldsSeq(lines["Groups"]) {
		c.groups = append(c.groups, uint32(number(word, 10)))
	}
	c.umask = int(number(lines["Umask"], 8))
	c.bound, c.permitted, c.effective = number(lines["CapBnd"], 16), number(lines["CapPrm"], 16), number(lines["CapEff"], 16)
	c.inheritable, c.ambient = number(lines["CapInh"], 16), number(lines["CapAmb"], 16)
	if c.uids[1] == 0 { // execve(2) would give root all of the bounding set
		c.bound &= c.permitted | c.inheritable
	}
	c.noNewPrivs = lines["NoNewPrivs"] == "1"
	if mode, ok := lines["Seccomp"]; ok {
		c.seccomp = int(number(mode, 10))
	}
	if n, ok := lines["Seccomp_filters"]; ok { // Linux 5.9
		c.filtered = int(number(n, 10))
	}
	return errors.Join(errs...)
}

// mapUsers turns ids as this user namespace sees them into those inside
// (user_namespaces(7)).
func (c *confined) mapUsers(uidMap, gidMap string) error {
	uids, err1 := readIDMap(uidMap)
	gids, err2 := readIDMap(gidMap)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	for i := range 3 {
		c.uids[i], c.gids[i] = uids.inside(c.uids[i]), gids.inside(c.gids[i])
	}
	for i, g := range c.groups {
		c.groups[i] = uint32(gids.inside(int(g)))
	}
	return nil
}

type idMap [][3]int // inside, outside, how many

func readIDMap(file string) (m idMap, err error) {
	data, err := os.ReadFile(file)
	for line := range strings.Lines(string(data)) {
		var r [3]int
		if _, err := fmt.Sscan(line, &r[0], &r[1], &r[2]); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		m = append(m, r)
	}
	return m, err
}

// inside returns what an id outside is inside; nobody where it is none.
func (m idMap) inside(id int) int {
	for _, r := range m {
		if id >= r[1] && id-r[1] < r[2] {
			return r[0] + id - r[1]
		}
	}
	return nobody
}

// limitNames are the resource limits as proc_pid_limits(5) has them, by number.
func limitNames() []string {
	return []string{
		"Max cpu time", "Max file size", "Max data size", "Max stack size", "Max core file size", "Max resident set", "Max processes",
		"Max open files", "Max locked memory", "Max address space", "Max file locks", "Max pending signals", "Max msgqueue size",
		"Max nice priority", "Max realtime priority", "Max realtime timeout",
	}
}

// parseLimits reads proc_pid_limits(5). What the target may have more of than
// this process is left at that.
func (c *confined) parseLimits(text string) error {
	c.limits = map[int]unix.Rlimit{}
	for kind, name := range limitNames() {
		_, rest, ok := strings.Cut(text, "\n"+name+" ")
		words := strings.Fields(rest)
		if !ok || len(words) < 2 {
			continue // older kernels have fewer
		}
		soft, err1 := parseLimit(words[0])
		hard, err2 := parseLimit(words[1])
		var own unix.Rlimit
		if err := errors.Join(err1, err2, unix.Getrlimit(kind, &own)); err != nil {
			return fmt.Errorf("read limits: %w", err)
		}
		hard = min(hard, own.Max)
		c.limits[kind] = unix.Rlimit{Cur: min(soft, hard), Max: hard}
	}
	return nil
}

func parseLimit(word string) (uint64, error) {
	if word == "unlimited" {
		return unix.RLIM_INFINITY, nil
	}
	return strconv.ParseUint(word, 10, 64)
}

// labelOf returns what is to be written to /proc/self/attr/exec so that a
// command gets the label of a process that has another than this one:
// AppArmor's profile, SELinux's context.
func labelOf(theirs, own string) string {
	label, err1 := os.ReadFile(theirs)
	mine, err2 := os.ReadFile(own)
	if err1 != nil || err2 != nil || string(label) == string(mine) {
		return "" // no security module has labels
	}
	text := strings.Trim(string(label), "\x00\n ")
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
		return text
	}
	name, _, _ := strings.Cut(text, " (")
	return "exec " + name
}
