package docker

import (
	"testing"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/runtime"
	dockertest "github.com/simianhq/simian/test/docker"
)

// TestDockerList lists a container that runs, and still once it has ended, with
// the reason why it is out.
func TestDockerList(t *testing.T) {
	both(t, func(t *testing.T, r dockertest.Runtime, image string) {
		name := r.Run(t, image, "--network", "none")
		s := selector(t, r, runtime.New(), "")
		row := func() (found experiment.Listed) {
			rows, err := s.List(t.Context())
			must(t, err)
			for _, l := range rows {
				if l.Name == name {
					found = l
				}
			}
			return found
		}
		if l := row(); l.Kind != string(r) || l.Workload != name || l.PID == 0 || l.Out != "" {
			t.Errorf("it runs: %+v", l)
		}
		r.Command(t, "kill", name)
		eventually(t, func() string {
			if l := row(); l.Out != "exited" || l.PID != 0 {
				return "it has ended: " + l.Name + " is out: " + l.Out
			}
			return ""
		})
	})
}
