package op

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/helper"
	"github.com/simianhq/simian/internal/proc"
)

// Helper starts a helper (internal/helper) that goes on with something while it
// is in force, or ends it. What it does hangs on this process: when that ends,
// however it does, so does the helper, and the kernel takes back what it held.
// When its target ends, so does the helper.
type Helper struct {
	Run     experiment.RunID       `json:"run"`
	Name    string                 `json:"name"`             // among the helpers of the run
	Program string                 `json:"program"`          // argv[0]: what it does (internal/stage)
	Args    jsontext.Value         `json:"args,omitempty"`   // what it is told
	Target  experiment.ProcessID   `json:"target"`           // it ends with this process
	Net     experiment.Namespace   `json:"net,omitzero"`     // the network namespace it runs in; its own where there is none
	Counts  []experiment.CgroupDir `json:"counts,omitempty"` // cgroups of the target's in which what it does counts
	Root    bool                   `json:"root,omitzero"`    // it stays root; otherwise it runs as nobody
	Scratch *Scratch               `json:"scratch,omitzero"` // a file that it is given
	Holds   []string               `json:"holds,omitempty"`  // handles, besides its own
	Words   string                 `json:"words"`            // what it does, in one line
	Present bool                   `json:"present"`

	host *Host
}

// NewHelper returns h as an op that starts it. Its undo is Gone.
func NewHelper(host *Host, h Helper) *Helper {
	h.Present, h.host = true, host
	return &h
}

// Gone returns the op that ends what h starts.
func (h *Helper) Gone() *Helper {
	gone := *h
	gone.Present, gone.Args, gone.Scratch = false, nil, nil
	return &gone
}

// Cgroup is the name of its cgroup: simian-<run>-<name>.
func (h *Helper) Cgroup() string { return fmt.Sprintf("simian-%s-%s", h.Run, h.Name) }

func (h *Helper) process() helperProcess {
	return helperProcess{program: h.Program, cgroup: h.Cgroup(), counts: h.Counts, nobody: !h.Root}
}

// String implements experiment.Op.
func (h *Helper) String() string {
	where := ""
	for _, c := range h.Counts {
		where = " in " + c.Path
		break
	}
	if !h.Present {
		return fmt.Sprintf("end helper %s (cgroup %s%s)", h.Words, h.Cgroup(), where)
	}
	return fmt.Sprintf("start helper %s (cgroup %s%s)", h.Words, h.Cgroup(), where)
}

// Backend implements experiment.Backed.
func (h *Helper) Backend() string { return "helper" }

// Handles implements experiment.Handled.
func (h *Helper) Handles() []string {
	return append([]string{"helper:" + h.Target.Handle() + ":" + h.Name}, h.Holds...)
}

// Apply implements experiment.Op.
func (h *Helper) Apply(ctx context.Context) error {
	if !h.Present {
		return h.end(ctx)
	}
	if held := h.held(); held != nil && held.alive() {
		return nil
	}
	if !h.host.FS.Alive(h.Target) {
		return fmt.Errorf("start helper for %s: %w", h.Target, experiment.ErrGone)
	}
	return h.start(ctx)
}

// held returns the helper where this process has started it.
func (h *Helper) held() *heldHelper {
	held, _ := h.host.holds(h.Cgroup()).(*heldHelper)
	return held
}

// start starts the helper and tells it what to do; where anything fails,
// nothing is left.
func (h *Helper) start(ctx context.Context) error {
	if old := h.host.drop(h.Cgroup()); old != nil { // it has died
		_ = old.Close()
	}
	held, err := h.launch()
	if err == nil {
		if err = h.begin(held); err == nil {
			h.host.hold(h.Cgroup(), held)
			return nil
		}
		held.end()
	}
	if _, bad := h.process().clear(ctx, h.host.FS); bad != nil {
		err = errors.Join(err, bad)
	}
	return err
}

func (h *Helper) launch() (held *heldHelper, err error) {
	if h.Net.Inode == 0 {
		return h.process().launch(h.host.FS)
	}
	err = h.host.FS.InNetwork(h.Net, func() error {
		held, err = h.process().launch(h.host.FS)
		return err
	})
	return held, err
}

// begin tells the helper what to do, and sends along a pidfd of the target and
// the file that it is given.
func (h *Helper) begin(held *heldHelper) error {
	pidfd, err := proc.OpenPidfd(h.Target)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	files := []int{pidfd}
	if h.Scratch != nil {
		f, err := h.Scratch.open()
		if err != nil {
			return err
		}
		defer f.Close()
		files = append(files, int(f.Fd()))
	}
	return held.begin([]byte(h.Args), files)
}

// end ends the helper: by its socket where this process holds that, else by
// killing what is in its cgroup.
func (h *Helper) end(ctx context.Context) error {
	if held, _ := h.host.drop(h.Cgroup()).(*heldHelper); held != nil {
		held.end()
	}
	_, err := h.process().clear(ctx, h.host.FS)
	return err
}

// Verify implements experiment.Verifier: the helper answers, and says what
// came of its work (helper.Report).
func (h *Helper) Verify(context.Context) (experiment.Evidence, error) {
	if !h.Present {
		return h.process().verifyGone(h.host.FS)
	}
	var r helper.Report
	e, err := h.held().report(h.host.FS, h.Target, &r)
	if err != nil || !e.InForce {
		return e, err
	}
	return evidenceOf(r), nil
}

func evidenceOf(r helper.Report) experiment.Evidence {
	return experiment.Evidence{InForce: !r.Failed, Felt: experiment.Felt(r.Felt), What: r.What, Hint: r.Hint}
}

// report asks the helper what came of its work. Where it can't answer, the
// evidence says so, and is not in force. A nil helper was not started here.
func (h *heldHelper) report(fs proc.FS, target experiment.ProcessID, v any) (experiment.Evidence, error) {
	switch {
	case h == nil:
		return experiment.Evidence{What: "no helper of this process", Hint: "it was never started, or was ended"}, nil
	case !fs.Alive(target):
		return experiment.Evidence{}, fmt.Errorf("the helper ended with %s: %w", target, experiment.ErrGone)
	case !h.alive():
		return h.ended(), nil
	}
	if err := h.client.Report(v); err != nil {
		select {
		case <-h.exited: // it is just ending
			return h.ended(), nil
		case <-time.After(endTime):
		}
		return experiment.Evidence{What: "the helper does not answer: " + err.Error(), Hint: "it is stopped, or in a frozen cgroup"}, nil
	}
	return experiment.Evidence{InForce: true}, nil
}

func (h *heldHelper) ended() experiment.Evidence {
	return experiment.Evidence{What: "the helper has ended: " + h.state, Hint: "somebody killed it, or memory was short; it is as if it had never been"}
}
