package native

import (
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// List lists the containers of all labs that are up, whose folders are below
// stateDir.
func List(fs proc.FS, stateDir string) ([]experiment.Listed, error) {
	labs, err := Labs(fs, stateDir)
	if err != nil {
		return nil, err
	}
	var all []experiment.Listed
	for _, lab := range labs {
		for _, b := range lab.Boxes {
			all = append(all, listed(fs, lab.Name, b))
		}
	}
	return all, nil
}

func listed(fs proc.FS, lab string, b Box) experiment.Listed {
	l := experiment.Listed{
		Kind: "native", Name: b.Name, Workload: lab + "/" + b.Service, Runtime: "simian", PID: b.Process.PID, Cgroup: "/" + strings.Trim(b.Cgroup, "/"),
	}
	if b.Labels[proc.ProtectLabel] == "true" {
		l.Protected = "label " + proc.ProtectLabel + "=true"
		l.Out = "protected"
	}
	if b.Process.PID == 0 || !fs.Alive(b.Process) {
		l.PID, l.Out = 0, string(b.State)
	}
	return l
}
