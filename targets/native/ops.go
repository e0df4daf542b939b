package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/image"
	"github.com/simianhq/simian/internal/proc"
)

// Ops returns the ops that launch a lab and take it down, by the name that
// journals call them.
func Ops(fs proc.FS) experiment.Catalog[experiment.Op] {
	return experiment.Catalog[experiment.Op]{
		"lab.folder":       func() experiment.Op { return &MakeFolder{} },
		"lab.removeFolder": func() experiment.Op { return &RemoveFolder{} },
		"lab.cgroup":       func() experiment.Op { return &MakeCgroup{} },
		"lab.removeCgroup": func() experiment.Op { return &RemoveCgroup{fs: fs} },
		"lab.network":      func() experiment.Op { return &MakeNetwork{} },
		"lab.closeNetwork": func() experiment.Op { return &CloseNetwork{} },
		"lab.launch":       func() experiment.Op { return &Launch{} },
		"lab.end":          func() experiment.Op { return &End{fs: fs} },
	}
}

// errElsewhere says that a lab is launched by the process that planned it, and
// by no other: it is the parent of its containers.
var errElsewhere = fmt.Errorf("only the process that planned a lab can launch it: %w", experiment.ErrUnsupported)

// MakeFolder makes the folder of a lab.
type MakeFolder struct {
	Path string `json:"path"` // absolute
}

// String implements experiment.Op.
func (o *MakeFolder) String() string { return "make folder " + o.Path }

// Apply implements experiment.Op.
func (o *MakeFolder) Apply(context.Context) error {
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(o.Path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// RemoveFolder removes the folder of a lab, with all that its containers have
// written, and lets go of its images.
type RemoveFolder struct {
	Path   string `json:"path"`   // absolute; its last part is the run's name
	Images string `json:"images"` // where the images are kept

	lab *Lab
}

// String implements experiment.Op.
func (o *RemoveFolder) String() string { return "rm -rf " + o.Path }

// Durable implements experiment.Durable: files outlive the kernel.
func (o *RemoveFolder) Durable() bool { return true }

// Apply implements experiment.Op. It follows no link.
func (o *RemoveFolder) Apply(ctx context.Context) error {
	if !filepath.IsAbs(o.Path) || filepath.Base(filepath.Dir(o.Path)) != "labs" {
		return fmt.Errorf("%s is not the folder of a lab", o.Path)
	}
	if err := os.RemoveAll(o.Path); err != nil {
		return err
	}
	if o.lab != nil {
		return o.lab.unpin()
	}
	cache, err := image.Open(o.Images)
	if err != nil {
		return err
	}
	return cache.Release(ctx, filepath.Base(o.Path))
}

// Verify implements experiment.Verifier.
func (o *RemoveFolder) Verify(context.Context) (experiment.Evidence, error) {
	_, err := os.Lstat(o.Path)
	if err == nil {
		return experiment.Evidence{What: o.Path + " is still there"}, nil
	}
	return experiment.Evidence{InForce: errors.Is(err, fs.ErrNotExist)}, nil
}

// MakeCgroup makes the cgroup that those of a lab's containers stand in.
type MakeCgroup struct {
	Name string `json:"name"` // below the root of each hierarchy

	lab *Lab
}

// String implements experiment.Op.
func (o *MakeCgroup) String() string { return "make cgroup " + o.Name }

// Apply implements experiment.Op. The first container makes it, with the
// controllers that it needs.
func (o *MakeCgroup) Apply(context.Context) error {
	if o.lab == nil {
		return errElsewhere
	}
	return nil
}

// RemoveCgroup kills all that is in the cgroup of a lab, and removes it.
type RemoveCgroup struct {
	Name string `json:"name"`

	fs proc.FS
}

// String implements experiment.Op.
func (o *RemoveCgroup) String() string {
	return "kill and remove cgroup " + o.Name
}

// Apply implements experiment.Op.
func (o *RemoveCgroup) Apply(ctx context.Context) error { return clearCgroup(ctx, o.fs, o.Name) }

// clearCgroup kills all that is in a cgroup of a lab until it stays empty, and
// removes it.
func clearCgroup(ctx context.Context, host proc.FS, name string) error {
	if !strings.HasPrefix(name, "simian-") {
		return fmt.Errorf("%s is not a cgroup of a lab", name)
	}
	once, cancel := context.WithCancel(ctx)
	cancel()
	if box.RemoveCgroup(once, host, name) == nil { // nothing is in it any more, which is the rule
		return nil
	}
	if err := box.KillCgroup(ctx, host, name); err != nil {
		return err
	}
	return box.RemoveCgroup(ctx, host, name)
}

// MakeNetwork makes the network namespace of a lab.
type MakeNetwork struct {
	Networks []string `json:"networks"`        // their names
	Ports    []string `json:"ports,omitempty"` // that are published on the host

	lab *Lab
}

// String implements experiment.Op.
func (o *MakeNetwork) String() string {
	s := "make network namespace with " + list(o.Networks)
	if len(o.Ports) > 0 {
		s += ", publish " + list(o.Ports)
	}
	return s
}

// Apply implements experiment.Op.
func (o *MakeNetwork) Apply(ctx context.Context) error {
	if o.lab == nil {
		return errElsewhere
	}
	return o.lab.connect(ctx)
}

// CloseNetwork lets go of a lab's network. The kernel takes its namespaces
// apart once nobody holds them: the process that launched it, or its
// containers.
type CloseNetwork struct {
	Networks []string `json:"networks"` // their names

	lab *Lab
}

// String implements experiment.Op.
func (o *CloseNetwork) String() string {
	return "let go of it: it goes with the last process that holds it"
}

// Apply implements experiment.Op.
func (o *CloseNetwork) Apply(context.Context) error {
	if o.lab == nil {
		return nil
	}
	return o.lab.disconnect()
}

// Launch starts a container for the first time.
type Launch struct {
	Container string `json:"container"`
	Image     string `json:"image"`

	lab *Lab
}

// String implements experiment.Op.
func (o *Launch) String() string { return "launch " + o.Container + " of " + o.Image }

// Apply implements experiment.Op.
func (o *Launch) Apply(ctx context.Context) error {
	if o.lab == nil {
		return errElsewhere
	}
	return o.lab.byName[o.Container].launch(ctx)
}

// End ends a container, and removes its cgroup.
type End struct {
	Container string `json:"container"`
	Cgroup    string `json:"cgroup"` // below the root of each hierarchy

	fs  proc.FS
	lab *Lab
}

// String implements experiment.Op.
func (o *End) String() string { return "kill and remove cgroup " + o.Cgroup }

// Apply implements experiment.Op.
func (o *End) Apply(ctx context.Context) error {
	if o.lab != nil {
		if err := o.lab.byName[o.Container].end(ctx); err != nil {
			return err
		}
	}
	return clearCgroup(ctx, o.fs, o.Cgroup)
}
