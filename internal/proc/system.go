package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// System is what a run must know of the host.
type System struct {
	FS
	Unguarded bool // allow targets that the guardian could not outlive this process for

	Objects Objects // knows of targets that have no process here; may be nil
}

// Objects knows whether an object of Kubernetes is there still.
type Objects interface {
	Alive(o experiment.ObjectRef) bool
}

// Header returns who this process is, on which machine.
func (s System) Header() (h experiment.Header, err error) {
	var errs [3]error
	h.Machine, errs[0] = s.MachineID()
	h.BootID, errs[1] = s.BootID()
	h.Runner, errs[2] = s.Identify(os.Getpid())
	if err := errors.Join(errs[:]...); err != nil {
		return h, err
	}
	h.UID = os.Geteuid()
	h.PIDNamespace, err = inodeOf(s.path(h.Runner.PID, "ns/pid"))
	return h, err
}

// Check gives experiment.ErrProtected for a target that must never be touched,
// and says why where this process could not take back what it does to it.
func (s System) Check(_ context.Context, t experiment.Target) error {
	if err := s.OwnPIDNamespace(); err != nil {
		return err
	}
	p, err := s.Protected()
	if err != nil {
		return err
	}
	if err := p.Check(t); err != nil {
		return err
	}
	return s.guarded(t)
}

// guarded refuses a target outside this process's PID namespace where that
// namespace can end, and the guardian with it, before the target does.
func (s System) guarded(t experiment.Target) error {
	initial, err := s.InitialPIDNamespace()
	if err != nil || initial || s.Unguarded || len(t.PIDs) == 0 {
		return err
	}
	own, err := inodeOf(s.path(os.Getpid(), "ns/pid"))
	if err != nil {
		return err
	}
	inside, err := s.descends(t.PIDs[0].PID, own)
	if err == nil && !inside {
		err = fmt.Errorf("%s is outside this PID namespace, and the guardian could not outlive PID 1 of it (--unguarded allows it): %w", t.Name, experiment.ErrUnsupported)
	}
	return err
}

// descends tells whether the PID namespace of pid is own, or one below it
// (ioctl_nsfs(2), NS_GET_PARENT).
func (s System) descends(pid int, own uint64) (bool, error) {
	fd, err := unix.Open(s.path(pid, "ns/pid"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, s.failure("open PID namespace", pid, err)
	}
	for {
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		if err != nil || st.Ino == own {
			unix.Close(fd)
			return err == nil, err
		}
		parent, err := unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
		unix.Close(fd)
		if err != nil {
			return false, nil // EPERM: it is above, or beside, what this process can see
		}
		fd = parent
	}
}

// Alive tells whether any process of t still runs, or, of a target that has none
// here, whether its object is there still.
func (s System) Alive(t experiment.Target) bool {
	if len(t.PIDs) == 0 && t.Object != nil && s.Objects != nil {
		return s.Objects.Alive(*t.Object)
	}
	return slices.ContainsFunc(t.PIDs, s.FS.Alive)
}

// Leftovers searches the host for what carries the run's name: cgroups, and
// processes started as its helpers.
func (s System) Leftovers(ctx context.Context, run experiment.RunID) ([]string, error) {
	cgroups, err1 := s.leftCgroups(ctx, "simian-"+string(run))
	helpers, err2 := s.leftHelpers(string(run))
	return append(cgroups, helpers...), errors.Join(err1, err2)
}

func (s System) leftCgroups(ctx context.Context, name string) ([]string, error) {
	roots, err := s.CgroupRoots()
	if err != nil {
		return nil, err
	}
	var left []string
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
				return nil
			case err != nil:
				return err
			case d.IsDir() && strings.HasPrefix(d.Name(), name):
				left = append(left, "cgroup "+path+"; by hand: rmdir "+path)
			}
			return ctx.Err()
		})
		if err != nil {
			return left, err
		}
	}
	return left, nil
}

func (s System) leftHelpers(run string) ([]string, error) {
	pids, err := s.PIDs()
	if err != nil {
		return nil, err
	}
	var left []string
	for _, pid := range pids {
		args, err := s.Cmdline(pid)
		if err == nil && len(args) > 1 && filepath.Base(args[0]) == "simian" && args[1] == "helper" && slices.Contains(args, run) {
			left = append(left, fmt.Sprintf("helper process %d; by hand: kill %d", pid, pid))
		}
	}
	return left, nil
}
