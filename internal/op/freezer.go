package op

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// The versions of the cgroup freezer.
const (
	FreezerV1 = "cgroup v1 freezer" // freezer.state (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst)
	FreezerV2 = "cgroup v2 freezer" // cgroup.freeze (Documentation/admin-guide/cgroup-v2.rst)
)

// Freezer freezes all processes of a cgroup and those below it, or thaws them.
type Freezer struct {
	Cgroup  experiment.CgroupDir `json:"cgroup"`
	Version string               `json:"version"` // FreezerV1 or FreezerV2
	Frozen  bool                 `json:"frozen"`

	fs proc.FS
}

// NewFreezer returns the op that freezes the cgroup, or thaws it.
func NewFreezer(fs proc.FS, dir experiment.CgroupDir, version string, frozen bool) *Freezer {
	return &Freezer{Cgroup: dir, Version: version, Frozen: frozen, fs: fs}
}

// String implements experiment.Op.
func (f *Freezer) String() string {
	word := "thaw"
	if f.Frozen {
		word = "freeze"
	}
	return fmt.Sprintf("%s %s (%s)", word, f.Cgroup.Path, f.Version)
}

// Backend implements experiment.Backed.
func (f *Freezer) Backend() string { return f.Version }

// Handles implements experiment.Handled.
func (f *Freezer) Handles() []string { return []string{f.Cgroup.Handle() + "#freezer"} }

// Apply implements experiment.Op. Before it freezes, it makes sure that nobody
// who must not be frozen has moved in.
func (f *Freezer) Apply(context.Context) error {
	dir, err := openCgroup(f.Cgroup)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if f.Frozen {
		p, err := f.fs.Protected()
		if err != nil {
			return err
		}
		if err := p.CheckCgroup(f.Cgroup.Path); err != nil {
			return err
		}
	}
	value := map[bool]string{true: "1", false: "0"}
	if f.Version == FreezerV1 {
		value = map[bool]string{true: "FROZEN", false: "THAWED"}
	}
	return writeAt(dir, freezerFile(f.Version), value[f.Frozen])
}

// freezerFile is the file that freezes and thaws.
func freezerFile(version string) string {
	if version == FreezerV1 {
		return "freezer.state"
	}
	return "cgroup.freeze"
}

// CheckFreezer gives os.ErrPermission where this process may not freeze the
// cgroup.
func CheckFreezer(dir experiment.CgroupDir, version string) error {
	file := filepath.Join(dir.Path, freezerFile(version))
	if err := unix.Faccessat(unix.AT_FDCWD, file, unix.W_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("write %s: %w: it needs root, or a cgroup delegated to this user", file, err)
	}
	return nil
}

// Verify implements experiment.Verifier: it waits until the kernel says that
// all of the cgroup is frozen, or thawed.
func (f *Freezer) Verify(ctx context.Context) (experiment.Evidence, error) {
	for {
		what, err := f.state()
		if err != nil {
			return experiment.Evidence{}, err
		}
		if (what == "frozen") == f.Frozen && what != "freezing" {
			return experiment.Evidence{InForce: true, What: what}, nil
		}
		if ctx.Err() != nil {
			return experiment.Evidence{What: what, Hint: "somebody thawed it, or one of its processes is in an uninterruptible sleep"}, nil
		}
		pause()
	}
}

// state reads frozen, freezing or thawed.
func (f *Freezer) state() (string, error) {
	dir, err := openCgroup(f.Cgroup)
	if err != nil {
		return "", err
	}
	unix.Close(dir)
	return freezerState(f.Cgroup.Path, f.Version)
}

func freezerState(path, version string) (string, error) {
	file := "cgroup.events"
	if version == FreezerV1 {
		file = "freezer.state"
	}
	data, err := os.ReadFile(filepath.Join(path, file))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return "", fmt.Errorf("read %s: %w", file, experiment.ErrGone)
	}
	if err != nil {
		return "", fmt.Errorf("read state of the freezer: %w", err)
	}
	if version == FreezerV1 {
		return strings.ToLower(strings.TrimSpace(string(data))), nil
	}
	if strings.Contains(string(data), "frozen 1") {
		return "frozen", nil
	}
	if asked, err := os.ReadFile(filepath.Join(path, "cgroup.freeze")); err == nil && strings.TrimSpace(string(asked)) == "1" {
		return "freezing", nil
	}
	return "thawed", nil
}

// CheckThawed gives ErrBusy where the cgroup is frozen already, by whomever.
func CheckThawed(dir experiment.CgroupDir, version string) error {
	state, err := freezerState(dir.Path, version)
	if err != nil {
		return err
	}
	if state != "thawed" {
		return fmt.Errorf("cgroup %s is %s already, and not by this run: %w", dir.Path, state, experiment.ErrBusy)
	}
	return nil
}
