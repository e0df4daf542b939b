package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Word is a name or a number: a user by name or uid, a process by name or pid.
type Word string

// TypeName implements experiment.Typed.
func (*Word) TypeName() string { return "name or number" }

// JSONSchema implements experiment.Shaped.
func (*Word) JSONSchema() string { return `{"type": ["string", "integer"]}` }

// UnmarshalJSON implements json.Unmarshaler.
func (w *Word) UnmarshalJSON(b []byte) error {
	switch jsontext.Value(b).Kind() {
	case '"':
		return json.Unmarshal(b, (*string)(w))
	case '0':
		if _, err := strconv.ParseUint(string(b), 10, 31); err == nil {
			*w = Word(b)
			return nil
		}
	}
	return errors.New("want a name, or a number of 0 or more")
}

// number returns the number that w is.
func (w Word) number() (int, bool) {
	n, err := strconv.Atoi(string(w))
	return n, err == nil
}

// shortestID is how much of a container's id must be given.
const shortestID = 4

// checkKin is what Validate says of where a process stands.
func (p *Process) checkKin() error {
	switch {
	case strings.Contains(p.NetNS, "/") && (!filepath.IsAbs(p.NetNS) || filepath.Clean(p.NetNS) != p.NetNS), p.NetNS == ".", p.NetNS == "..":
		return experiment.Fieldf("netns", "%q is neither the name of a network namespace (ip netns) nor a path from the root", p.NetNS)
	case p.Container != "" && (len(p.Container) < shortestID || len(p.Container) > 64 || strings.ContainsFunc(p.Container, notHex)):
		return experiment.Fieldf("container", "%q is not the id of a container: 64 hexadecimal digits, or the first %d or more of them", p.Container, shortestID)
	case p.Group && p.PID != 0:
		return experiment.Fieldf("group", "a pid is one process: leave group out")
	}
	if n, ok := p.Ancestor.number(); ok && n < 1 {
		return experiment.Fieldf("ancestor", "%d is not a pid (1 or more)", n)
	}
	return nil
}

// kin is where the processes looked for stand, as read from the host once.
type kin struct {
	netns      uint64 // inode of the network namespace, 0 for any
	uid        int    // -1 for any
	containers []string
}

// newKin resolves names of namespaces and users.
func (p *Process) newKin() (kin, error) {
	k := kin{uid: -1}
	var err error
	if p.NetNS != "" {
		if k.netns, err = namespaceAt(p.NetNS); err != nil {
			return k, err
		}
	}
	if p.User == "" {
		return k, nil
	}
	if n, ok := p.User.number(); ok {
		k.uid = n
		return k, nil
	}
	u, err := user.Lookup(string(p.User))
	if err != nil {
		return k, fmt.Errorf("%w: there is no user %q on this host", experiment.ErrNoMatch, string(p.User))
	}
	k.uid, err = strconv.Atoi(u.Uid)
	return k, err
}

// netnsDirs are where `ip netns add` puts names (ip-netns(8)).
func netnsDirs() []string { return []string{"/run/netns", "/var/run/netns"} }

// namespaceAt returns the inode of a network namespace by its path, or its name.
func namespaceAt(name string) (uint64, error) {
	paths := []string{name}
	if !filepath.IsAbs(name) {
		paths = paths[:0]
		for _, dir := range netnsDirs() {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	for _, path := range paths {
		var at unix.Statfs_t
		var st unix.Stat_t
		err := errors.Join(unix.Statfs(path, &at), unix.Stat(path, &st))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return 0, &fs.PathError{Op: "look at network namespace", Path: path, Err: err}
		case at.Type != unix.NSFS_MAGIC:
			return 0, fmt.Errorf("%w: %s is no namespace", experiment.ErrNoMatch, path)
		}
		return st.Ino, nil
	}
	var names []string
	for _, dir := range netnsDirs() {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	hint := ""
	if near := experiment.Nearest(name, names); near != "" {
		hint = fmt.Sprintf(" (did you mean %q?)", near)
	}
	return 0, fmt.Errorf("%w: there is no network namespace %s%s", experiment.ErrNoMatch, name, hint)
}

// standsThere tells whether a process is where it is looked for.
func (s *search) standsThere(pid int) bool {
	if s.kin.netns != 0 {
		if ns, err := s.fs.NetNamespace(pid); err != nil || ns != s.kin.netns {
			return false
		}
	}
	if s.kin.uid >= 0 {
		if uid, err := s.fs.UID(pid); err != nil || uid != s.kin.uid {
			return false
		}
	}
	return s.inContainer(pid) && (s.Ancestor == "" || s.descends(pid))
}

func (s *search) inContainer(pid int) bool {
	if s.Container == "" {
		return true
	}
	paths, err := s.fs.CgroupPaths(pid)
	if err != nil {
		return false
	}
	id := container(cgroupOf(paths))
	if !strings.HasPrefix(id, s.Container) {
		return false
	}
	if !slices.Contains(s.kin.containers, id) {
		s.kin.containers = append(s.kin.containers, id)
	}
	return true
}

// descends tells whether one of a process's ancestors is the one asked for.
func (s *search) descends(pid int) bool {
	const deepest = 1000 // ancestors may change while they are read
	want, byPID := s.Ancestor.number()
	for range deepest {
		stat, err := s.fs.Stat(pid)
		if err != nil || stat.PPID == 0 {
			return false
		}
		pid = stat.PPID
		if byPID && pid == want || !byPID && s.called(pid, string(s.Ancestor)) {
			return true
		}
	}
	return false
}

// called tells whether a process, or its executable, has a name.
func (s *search) called(pid int, name string) bool {
	if comm, err := s.fs.Comm(pid); err != nil || comm == name {
		return err == nil
	}
	exe, err := s.fs.Exe(pid)
	return err == nil && filepath.Base(exe) == name
}

// oneContainer refuses an id that several begin with.
func (s *search) oneContainer() error {
	if len(s.kin.containers) < 2 {
		return nil
	}
	slices.Sort(s.kin.containers)
	return fmt.Errorf("%w: %d containers begin with %s: give more of the id of one\n        containers: %s",
		experiment.ErrNoMatch, len(s.kin.containers), s.Container, strings.Join(s.kin.containers, " "))
}
