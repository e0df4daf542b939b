package chaos

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/burn"
	"github.com/simianhq/simian/internal/op"
)

// BurnMemory holds memory in the target's name: percent of its limit, or a
// size; or all that is to be had, until the kernel kills.
type BurnMemory struct {
	Percent experiment.Percent  `json:"percent,omitzero" jsonschema:"of the target's memory limit"`
	Size    experiment.Size     `json:"size,omitzero" jsonschema:"or so much, such as 64MiB"`
	Ramp    experiment.Duration `json:"ramp,omitzero" jsonschema:"until all of it is held: 0 is at once"`
	OOM     bool                `json:"oom,omitzero" jsonschema:"takes more and more until the kernel kills (out of memory); the report says whom"`

	host *op.Host
}

// Validate implements experiment.Validator.
func (b *BurnMemory) Validate() error {
	said := 0
	for _, is := range []bool{b.Percent != 0, b.Size != 0, b.OOM} {
		if is {
			said++
		}
	}
	switch {
	case said != 1:
		return experiment.Fieldf("percent", "say one of percent, size and oom")
	case b.Size < 0:
		return experiment.Fieldf("size", "%s is less than nothing", b.Size)
	case b.Ramp < 0:
		return experiment.Fieldf("ramp", "%s is less than nothing", b.Ramp)
	}
	return nil
}

// Plan implements experiment.Fault.
func (b *BurnMemory) Plan(_ context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	c, err := ownCgroup(b.host.FS, t, "memory")
	if err != nil {
		return nil, err
	}
	limit, limited := b.host.FS.MemoryLimit(c.dir)
	amount, words, err := b.amount(limit, limited)
	if err != nil {
		return nil, err
	}
	if used := b.host.FS.MemoryUse(c.dir); !b.OOM && limited && used+amount > limit {
		return nil, fmt.Errorf("%s beside the %s that it uses is more than its limit of %s, so the kernel would kill: take less, or say oom: true", experiment.Size(amount), experiment.Size(used), experiment.Size(limit))
	}
	order := burn.Memory{Bytes: amount, RampNs: b.Ramp.D().Nanoseconds(), OOM: b.OOM, Events: filepath.Join(c.dir.Path, eventsFile(c.v2))}
	if limited {
		order.Limit = limit
	}
	order.Cgroup = filepath.Join(c.dir.Path, fmt.Sprintf("simian-%s-burn-memory-%d", run, t.PIDs[0].PID))
	steps, err := burner(b.host, t, op.Helper{
		Run: run, Name: "burn-memory", Program: burn.MemoryName, Counts: c.beside(t),
		Words: fmt.Sprintf("burn.memory for %s: %s", t.Name, words),
	}, order)
	if err != nil || !b.OOM {
		return steps, err
	}
	kill := op.NewOOMKill(b.host, c.dir, c.v2, t)
	return append([]experiment.Step{{Do: kill}}, steps...), nil
}

// eventsFile is the file that counts what the kernel kills.
func eventsFile(v2 bool) string {
	if v2 {
		return "memory.events"
	}
	return "memory.oom_control"
}

// amount returns how many bytes are to be held, and that in words.
func (b *BurnMemory) amount(limit int64, limited bool) (int64, string, error) {
	switch {
	case !limited && b.OOM:
		return 0, "", fmt.Errorf("it has no memory limit, so the whole host would run out: %w (give it a limit)", experiment.ErrUnsupported)
	case b.OOM:
		return limit * 2, fmt.Sprintf("until the kernel kills at its limit of %s", experiment.Size(limit)), nil
	case b.Size > 0:
		return pages(int64(b.Size)), b.Size.String(), nil
	case !limited:
		return 0, "", fmt.Errorf("it has no memory limit that %v %% could be of: %w (say size)", float64(b.Percent), experiment.ErrUnsupported)
	}
	return pages(int64(float64(limit) * float64(b.Percent) / 100)), fmt.Sprintf("%.4g %% of its limit of %s", float64(b.Percent), experiment.Size(limit)), nil
}

// pages rounds bytes up to whole pages.
func pages(n int64) int64 { return max(4096, (n+4095)/4096*4096) }
