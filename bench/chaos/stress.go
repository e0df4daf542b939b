package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/proc"
)

// stress runs stress-ng in cgroups with limits.
type stress struct {
	fs    proc.FS
	says  string // its version
	dir   string // where it writes
	begun int
}

func newStress(ctx context.Context, fs proc.FS, dir string) (*stress, error) {
	out, err := exec.CommandContext(ctx, "stress-ng", "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%w (make lab installs it)", err)
	}
	says, _, _ := strings.Cut(strings.TrimSpace(string(out)), " (")
	s := &stress{fs: fs, says: strings.ReplaceAll(says, ", version", ""), dir: filepath.Join(dir, "stress")}
	return s, os.Mkdir(s.dir, 0o755)
}

// version is the program's, "" where it is not there.
func (s *stress) version() string {
	if s == nil {
		return ""
	}
	return s.says
}

// stressed is stress-ng at work.
type stressed struct {
	fs     proc.FS
	name   string
	dirs   []string // its cgroups, one of each hierarchy
	cmd    *exec.Cmd
	output bytes.Buffer
}

// start starts it in a cgroup of its own.
func (s *stress) start(limits box.Limits, args ...string) (*stressed, error) {
	s.begun++
	t := &stressed{fs: s.fs, name: fmt.Sprintf("simian-bench-%d-%d", os.Getpid(), s.begun)}
	list, err := s.fs.CgroupHierarchies()
	if err != nil {
		return nil, err
	}
	if _, err := box.NewCgroup(s.fs, t.name, limits); err != nil {
		return nil, err
	}
	for _, h := range list {
		t.dirs = append(t.dirs, filepath.Join(h.Dir, t.name))
	}
	const join = `for dir in $DIRS; do echo $$ > $dir/cgroup.procs || exit 99; done; exec stress-ng "$@"`
	t.cmd = exec.Command("sh", append([]string{"-c", join, "sh", "--temp-path", s.dir}, args...)...)
	t.cmd.Env = append(os.Environ(), "DIRS="+strings.Join(t.dirs, " "))
	t.cmd.Dir, t.cmd.Stdout, t.cmd.Stderr = s.dir, &t.output, &t.output
	if err := t.cmd.Start(); err != nil {
		return nil, errors.Join(err, box.RemoveCgroup(context.Background(), s.fs, t.name))
	}
	return t, nil
}

// cgroup is where it is, by controller as far as there is a hierarchy of its own.
func (t *stressed) cgroup() experiment.Cgroup {
	c := experiment.Cgroup{V1: map[string]experiment.CgroupDir{}}
	for _, dir := range t.dirs {
		if name := filepath.Base(filepath.Dir(dir)); name == "cpu" || name == "memory" || name == "cpu,cpuacct" {
			controller, _, _ := strings.Cut(name, ",")
			c.V1[controller] = experiment.CgroupDir{Path: dir}
			continue
		}
		c.V2.Path = dir // the last one is of version 2
	}
	return c
}

// pids are its processes.
func (t *stressed) pids() []int {
	pids, _ := t.fs.CgroupMembers(t.dirs[0])
	return pids
}

// stop ends it, and says so where it had ended before.
func (t *stressed) stop() error {
	var early error
	if len(t.pids()) == 0 {
		early = errors.New("stress-ng has ended before its time")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := box.KillCgroup(ctx, t.fs, t.name)
	_ = t.cmd.Wait()
	if early != nil {
		early = fmt.Errorf("%w: %s", early, t.output.String())
	}
	return errors.Join(early, err, box.RemoveCgroup(ctx, t.fs, t.name))
}
