package op

import (
	"context"
	"fmt"
	"time"

	"github.com/simianhq/simian/experiment"
)

// Verify implements experiment.Verifier: what is read is the vDSO of each
// process. Whether the process asks it for the time can't be told.
func (c *Clock) Verify(context.Context) (experiment.Evidence, error) {
	if !c.Present {
		return c.verifyBack()
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
	reads := time.Now().Add(offset).UTC().Format(time.DateTime)
	return experiment.Evidence{InForce: true, What: fmt.Sprintf("%s by the vDSO: time of day %s, it is %s UTC there", howMany(n), signed(offset), reads)}, nil
}

func (c *Clock) verifyBack() (experiment.Evidence, error) {
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
