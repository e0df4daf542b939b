package chaos

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// counted is where what is burnt counts: the target's own cgroup of a
// controller, and beside it others of its cgroups, version 1's.
type counted struct {
	dir experiment.CgroupDir
	v2  bool
}

// ownCgroup finds the cgroup in which a helper's work counts. One that others
// share is none: they would pay.
func ownCgroup(fs proc.FS, t experiment.Target, controller string) (counted, error) {
	if len(t.PIDs) == 0 {
		return counted{}, fmt.Errorf("it has no process here: %w", experiment.ErrUnsupported)
	}
	dir, v2, err := fs.OwnController(t, controller)
	if err != nil {
		return counted{}, fmt.Errorf("others would pay for what is burnt: %w", err)
	}
	return counted{dir, v2}, nil
}

// beside lists the cgroups that a helper joins: that in which its work counts
// and, on version 1, those of other controllers.
func (c counted) beside(t experiment.Target, controllers ...string) []experiment.CgroupDir {
	list := []experiment.CgroupDir{c.dir}
	for _, name := range controllers {
		if dir := t.Cgroup.V1[name]; !c.v2 && dir.Path != "" && dir.Path != c.dir.Path {
			list = append(list, dir)
		}
	}
	return list
}

// burner is the step that starts a helper which burns, and ends it.
func burner(host *op.Host, t experiment.Target, h op.Helper, args any) ([]experiment.Step, error) {
	text, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	h.Args, h.Target = jsontext.Value(text), t.PIDs[0]
	h.Name = fmt.Sprintf("%s-%d", h.Name, t.PIDs[0].PID)
	do := op.NewHelper(host, h)
	return []experiment.Step{{Do: do, Undo: do.Gone()}}, nil
}
