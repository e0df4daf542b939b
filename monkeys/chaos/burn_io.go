package chaos

import (
	"context"
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/burn"
	"github.com/simianhq/simian/internal/op"
)

// BurnIO reads and writes on a disk of the target's, in its name.
type BurnIO struct {
	Path   string          `json:"path,omitempty" jsonschema:"a folder of the target's, on the file system that is meant (/)"`
	Do     string          `json:"do,omitempty" jsonschema:"read, write (what is left out), both, or fsync: each write waits for the disk"`
	Random bool            `json:"random,omitzero" jsonschema:"here and there in the file, and not from its beginning to its end"`
	Bytes  experiment.Size `json:"bytesPerSecond,omitzero" jsonschema:"how much, such as 8MiB; as much as the disk does where neither is said"`
	Rate   experiment.Rate `json:"operations,omitzero" jsonschema:"or how many operations, such as 200/s"`
	Block  experiment.Size `json:"block,omitzero" jsonschema:"of one operation (64KiB), a multiple of 4KiB"`
	File   experiment.Size `json:"file,omitzero" jsonschema:"how long the file is (64MiB): larger than what the disk itself remembers, for reads"`

	host *op.Host
}

const (
	sector       = 4096     // what O_DIRECT may ask for
	defaultBlock = 64 << 10 // bytes
	defaultFile  = 64 << 20
	ioWorkers    = 4        // operations under way at a time
	leastFree    = 64 << 20 // bytes that are left on the file system
)

// Validate implements experiment.Validator.
func (b *BurnIO) Validate() error {
	switch b.Do {
	case "", "read", "write", "both", "fsync":
	default:
		return experiment.Fieldf("do", "unknown %q\n        known: read write both fsync", b.Do)
	}
	switch {
	case b.Bytes != 0 && b.Rate != 0:
		return experiment.Fieldf("operations", "say bytesPerSecond or operations, not both")
	case b.Bytes < 0:
		return experiment.Fieldf("bytesPerSecond", "%s is less than nothing", b.Bytes)
	case b.Block < 0 || b.block()%sector != 0 || b.block() > 16<<20:
		return experiment.Fieldf("block", "%s is no multiple of 4KiB of up to 16MiB", b.Block)
	case b.File < 0 || b.file() < b.block():
		return experiment.Fieldf("file", "%s is less than one block of %s", b.File, experiment.Size(b.block()))
	case b.Path != "" && !path.IsAbs(b.Path):
		return experiment.Fieldf("path", "%q is not absolute: say it as the target sees it", b.Path)
	}
	return nil
}

func (b *BurnIO) block() int64 { return orElse(int64(b.Block), defaultBlock) }
func (b *BurnIO) file() int64 {
	n := orElse(int64(b.File), defaultFile)
	return n / b.block() * b.block()
}

func orElse(n, otherwise int64) int64 {
	if n == 0 {
		return otherwise
	}
	return n
}

// Plan implements experiment.Fault.
func (b *BurnIO) Plan(_ context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	c, err := ownCgroup(b.host.FS, t, "io")
	if err != nil {
		return nil, err
	}
	scratch := op.Scratch{Root: t.Root, Folder: path.Clean("/" + b.Path), Bytes: b.file()}
	if err := b.fits(scratch); err != nil {
		return nil, err
	}
	order := burn.IO{
		Read: b.Do == "read" || b.Do == "both", Write: b.Do != "read", Sync: b.Do == "fsync", Random: b.Random,
		Block: int(b.block()), File: b.file(), PerSecond: b.perSecond(), Workers: ioWorkers,
	}
	return burner(b.host, t, op.Helper{
		Run: run, Name: "burn-io", Program: burn.IOName, Counts: c.beside(t), Scratch: &scratch,
		Words: fmt.Sprintf("burn.io for %s: %s", t.Name, b.words()),
	}, order)
}

// fits refuses a file system that is no disk, or has no room.
func (b *BurnIO) fits(s op.Scratch) error {
	st, err := s.Check()
	if err != nil {
		return err
	}
	if st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC {
		return fmt.Errorf("%s of the target is in memory, not on a disk: %w (name a path that is on one)", s.Folder, experiment.ErrUnsupported)
	}
	if free := int64(st.Bavail) * st.Bsize; free-s.Bytes < leastFree {
		return fmt.Errorf("%s has %s free: a file of %s leaves less than %s: say a smaller file", s.Folder, experiment.Size(free), experiment.Size(s.Bytes), experiment.Size(leastFree))
	}
	return nil
}

// perSecond is the rate in operations, 0 for as many as the disk does.
func (b *BurnIO) perSecond() float64 {
	if b.Bytes > 0 {
		return float64(b.Bytes) / float64(b.block())
	}
	return float64(b.Rate)
}

func (b *BurnIO) words() string {
	how := "from beginning to end"
	if b.Random {
		how = "at random"
	}
	much := "as much as the disk does"
	switch {
	case b.Bytes > 0:
		much = b.Bytes.String() + "/s"
	case b.Rate > 0:
		much = b.Rate.String()
	}
	do := b.Do
	if do == "" {
		do = "write"
	}
	return fmt.Sprintf("%s %s on %s in blocks of %s, %s", do, how, path.Clean("/"+b.Path), experiment.Size(b.block()), much)
}
