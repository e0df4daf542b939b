package op

import (
	"context"
	"fmt"
	"time"

	"github.com/simianhq/simian/experiment"
)

// Verify implements experiment.Verifier: what is read is the vDSO of each
// process. Whether the process asks it for the time can't be told.
func (c *Clock) Verify(ctx context.Context) (experiment.Evidence, error) {
	if !c.Present {
		return c.verifyBack(ctx)
	}
	found, err := c.members()
	if err != nil {
		return experiment.Evidence{}, err
	}
	n, offset := 0, time.Duration(0)
	for _, p := range found {
		if p.state.In(c.ID, c.Image) {
			n, offset = n+1, p.state.Offset
		}
	}
	if n < len(found) {
		return experiment.Evidence{
			What: fmt.Sprintf("%d of %d processes read another time of day", n, len(found)),
			Hint: "the others have become another program, or were started, since",
		}, nil
	}
	return c.verifyCalls(n, offset)
}

// verifyCalls tells of n processes whose vDSO is shifted whether their system
// calls are caught as well.
func (c *Clock) verifyCalls(n int, offset time.Duration) (experiment.Evidence, error) {
	there, err := c.callsThere()
	if err != nil {
		return experiment.Evidence{}, err
	}
	if c.Program != "" && !there {
		return experiment.Evidence{What: "BPF program " + c.Program + " is not there: system calls tell the truth", Hint: "who made it has ended"}, nil
	}
	words, calls := c.caught()
	reads := time.Now().Add(offset).UTC().Format(time.DateTime)
	ev := experiment.Evidence{InForce: true, What: fmt.Sprintf("%s by the vDSO: time of day %s, it is %s UTC there%s", howMany(n), signed(offset), reads, words)}
	if calls > 0 {
		ev.Felt = experiment.FeltYes
	}
	return ev, nil
}

func (c *Clock) verifyBack(ctx context.Context) (experiment.Evidence, error) {
	if gone, err := c.callsGone(ctx); err != nil || !gone {
		return experiment.Evidence{What: "BPF program " + c.Program + " is there still"}, err
	}
	left, err := c.shifted()
	if err != nil {
		return experiment.Evidence{}, err
	}
	if len(left) > 0 {
		return experiment.Evidence{
			What: fmt.Sprintf("%s still read another time of day: %s", howMany(len(left)), processes(left)),
			Hint: "a thread of it is stopped or frozen, or a debugger holds it; it reads the right time once it has become another program, or has ended",
		}, nil
	}
	return experiment.Evidence{InForce: true, What: "the time of day is the host's"}, nil
}

func howMany(processes int) string {
	if processes == 1 {
		return "1 process"
	}
	return fmt.Sprintf("%d processes", processes)
}
