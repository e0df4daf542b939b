package chaos

import (
	"context"
	"errors"
	"path"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
)

// Detach takes a mount from a target: its volume, as a disk that is pulled
// out.
type Detach struct {
	Mount string `json:"mount" jsonschema:"a mount point of the target, such as /data"`
	How   string `json:"how,omitempty" jsonschema:"cover: an empty, read-only folder shows there (default); unmount: it is no mount point any more, and the folder below shows"`

	host *op.Host
}

// Validate implements experiment.Validator.
func (d *Detach) Validate() error {
	switch d.How {
	case "", "cover", "unmount":
	default:
		return experiment.Fieldf("how", "unknown word %q\n        words: cover unmount", d.How)
	}
	if d.Mount == "" {
		return errors.New("mount is missing: a mount point of the target, such as /data")
	}
	return insidePath("mount", d.Mount)
}

// Plan implements experiment.Fault.
func (d *Detach) Plan(_ context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	at, err := op.FindMount(d.host.FS, run, t, path.Clean(d.Mount))
	if err != nil {
		return nil, err
	}
	if err := op.CheckDetachable(d.host.FS, at, d.How == "unmount"); err != nil {
		return nil, err
	}
	if d.How == "unmount" {
		do := op.NewUnmount(d.host, at)
		return []experiment.Step{{Do: do, Undo: do.Gone()}}, nil
	}
	do := op.NewCover(d.host, at)
	return []experiment.Step{{Do: do, Undo: do.Gone()}}, nil
}
