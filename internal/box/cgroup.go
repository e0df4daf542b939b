package box

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/proc"
)

// initSuffix names the cgroup beside a limited one in which a reaper sits.
const initSuffix = "-init"

// cgroupName is what this package makes, kills in and removes: nothing whose
// name does not begin with simian-.
var cgroupName = regexp.MustCompile(`^simian-[a-zA-Z0-9_.-]+(/[a-zA-Z0-9_][a-zA-Z0-9_.-]*)*$`)

func checkName(name string) error {
	if !cgroupName.MatchString(name) || len(name) > unix.NAME_MAX {
		return fmt.Errorf("cgroup %q: its name must be like simian-RUN/NAME", name)
	}
	return nil
}

// Cgroup is a container's place in every cgroup hierarchy that is mounted,
// with its limits. It outlives the container's restarts.
type Cgroup struct {
	name  string
	v1    []string          // mount points of version 1 hierarchies
	v2    string            // mount point of version 2, "" where it is not mounted
	oom   string            // the file that counts OOM kills, "" where none does
	links map[string]string // the folder of each controller that shares a hierarchy: cpu is cpu,cpuacct
}

// hierarchies finds where the cgroup called name is, or is to be.
func hierarchies(fs proc.FS, name string) (*Cgroup, []proc.CgroupHierarchy, error) {
	if err := checkName(name); err != nil {
		return nil, nil, err
	}
	list, err := fs.CgroupHierarchies()
	if err != nil {
		return nil, nil, err
	}
	if len(list) == 0 {
		return nil, nil, errors.New("no cgroup hierarchy is mounted")
	}
	c := &Cgroup{name: name, links: map[string]string{}}
	for _, h := range list {
		if h.Controllers == nil {
			c.v2 = h.Dir
			continue
		}
		c.v1 = append(c.v1, h.Dir)
		for _, controller := range h.Controllers {
			if folder := filepath.Base(h.Dir); folder != controller {
				c.links[controller] = folder
			}
		}
		if slices.Contains(h.Controllers, "memory") {
			c.oom = filepath.Join(h.Dir, name, "memory.oom_control")
		}
	}
	if c.v2 != "" && c.oom == "" {
		c.oom = filepath.Join(c.v2, name, "memory.events")
	}
	return c, list, nil
}

// NewCgroup makes a cgroup called name, such as simian-RUN/web-1, in every
// hierarchy, and sets its limits. Where that fails nothing is left behind, and
// a limit that the kernel refuses is named with its value and its file.
func NewCgroup(fs proc.FS, name string, l Limits) (*Cgroup, error) {
	c, list, err := hierarchies(fs, name)
	if err != nil {
		return nil, err
	}
	if err := c.make(list, l); err != nil {
		return nil, errors.Join(fmt.Errorf("make cgroup %s: %w", name, err), c.unmake())
	}
	return c, nil
}

func (c *Cgroup) make(list []proc.CgroupHierarchy, l Limits) error {
	for _, h := range list {
		if err := makeDirs(h.Dir, c.name, slices.Contains(h.Controllers, "cpuset")); err != nil {
			return err
		}
	}
	if len(c.v1) > 0 {
		return l.setV1(list, c.name)
	}
	return l.setV2(c.v2, c.name)
}

// makeInit makes the cgroup in which a reaper sits. It has no limits.
func (c *Cgroup) makeInit() error {
	for _, root := range c.roots() {
		if err := makeDirs(root, c.name+initSuffix, true); err != nil {
			return fmt.Errorf("make cgroup %s: %w", c.name+initSuffix, err)
		}
	}
	return nil
}

// roots returns the mount points of all hierarchies, version 2 last.
func (c *Cgroup) roots() []string {
	if c.v2 == "" {
		return c.v1
	}
	return append(slices.Clip(c.v1), c.v2)
}

// makeDirs makes the cgroup name below root, and those above it. Where another
// container that failed takes an empty one above away, it is made once more.
func makeDirs(root, name string, cpuset bool) error {
	for try := 0; ; try++ {
		err := makeDirsOnce(root, name, cpuset)
		if try == 10 || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			return err
		}
	}
}

// makeDirsOnce makes them. Nothing can run in a cgroup of version 1's cpuset
// before it has processors and memory; who made it may not have come to that.
func makeDirsOnce(root, name string, cpuset bool) error {
	dir := root
	for part := range strings.SplitSeq(name, "/") {
		above := dir
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if !cpuset {
			continue
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if err := inherit(filepath.Join(above, file), filepath.Join(dir, file)); err != nil {
				return err
			}
		}
	}
	return nil
}

func inherit(from, to string) error {
	value, err := os.ReadFile(from)
	if err != nil || strings.TrimSpace(string(value)) == "" {
		return nil // another hierarchy, or version 2, where empty means as above
	}
	if there, err := os.ReadFile(to); err != nil || strings.TrimSpace(string(there)) != "" {
		return nil
	}
	return os.WriteFile(to, value, 0)
}

// unmake removes what make has made, and the cgroup above where it is empty
// then.
func (c *Cgroup) unmake() error {
	err := removeTree(c.roots(), c.name)
	above, _, nested := strings.Cut(c.name, "/")
	for _, root := range c.roots() {
		if nested {
			_ = unix.Rmdir(filepath.Join(root, above)) // other containers are in it
		}
	}
	return err
}

// removeTree removes a cgroup and those below it, in each hierarchy.
func removeTree(roots []string, name string) error {
	var errs []error
	for _, root := range roots {
		dirs, err := tree(filepath.Join(root, name))
		errs = append(errs, err)
		for _, dir := range slices.Backward(dirs) {
			if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
				errs = append(errs, fmt.Errorf("remove cgroup %s: %w", dir, err))
			}
		}
	}
	return errors.Join(errs...)
}

// tree returns the cgroup at dir and all below it, from the top down; none
// where there is none.
func tree(dir string) (dirs []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV):
			return nil
		case err != nil:
			return err
		case d.IsDir():
			dirs = append(dirs, path)
		}
		return nil
	})
	return dirs, err
}

// open opens the version 2 cgroup, for a process to be born in; nil where
// there is none.
func (c *Cgroup) open(suffix string) (*os.File, error) {
	if c == nil || c.v2 == "" {
		return nil, nil
	}
	f, err := os.Open(filepath.Join(c.v2, c.name+suffix))
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	return f, nil
}

// openInit opens the one in which a reaper sits, where there is to be one.
func (c *Cgroup) openInit(wanted bool) (*os.File, error) {
	if !wanted {
		return nil, nil
	}
	return c.open(initSuffix)
}
