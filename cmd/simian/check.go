package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/guard"
	"github.com/simianhq/simian/internal/journal"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// checkResult is what the check command prints.
type checkResult struct {
	Version    string             `json:"version"`
	Kernel     string             `json:"kernel"`
	Rights     string             `json:"rights"`
	Facts      []proc.Fact        `json:"facts"`
	Unfinished []experiment.RunID `json:"unfinished"`
}

func (a *app) checkCommand() *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:     "check",
		Short:   "Say what this host can do, and what it lacks",
		Long:    "Check looks at the kernel, its rights on it and the state directory. It changes\nnothing.\n" + plainExitCodes,
		Example: "  simian check",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			r := checkResult{Version: version(), Facts: append(a.fs.Survey(), a.latencyFact(), a.stateFact(), lockFact(), bootFact(), a.policyFact()), Unfinished: []experiment.RunID{}}
			r.Kernel, r.Rights = a.fs.Who()
			if s, err := a.reader(); err == nil {
				defer s.Close()
				open, _ := s.Open(c.Context())
				r.Unfinished = append(r.Unfinished, open...)
			}
			if asJSON {
				return writeJSON(a.stdout, r)
			}
			a.printCheck(r)
			return nil
		},
	}
	out.add(c)
	return c
}

// latencyFact says by what packets are delayed here.
func (a *app) latencyFact() proc.Fact {
	host := op.NewHost(a.fs)
	netem, prio := op.CanNetem(host), op.CanPrio(host)
	switch queue := op.CanQueue(host); {
	case netem == nil && prio == nil:
		return proc.Fact{Name: "latency", Able: "netem", Detail: "delays are made by the kernel"}
	case queue == nil:
		return proc.Fact{Name: "latency", Able: "queue", Detail: "no netem in this kernel: delays are made in user space"}
	default:
		return proc.Fact{Name: "latency", Able: "no", Detail: fmt.Sprintf("%v; in user space: %v", strings.ReplaceAll(errors.Join(netem, prio).Error(), "\n", "; "), queue)}
	}
}

func (a *app) stateFact() proc.Fact {
	s, err := a.reader()
	if err != nil {
		return proc.Fact{Name: "journals", Able: "no", Detail: err.Error()}
	}
	s.Close()
	for dir := a.dir; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); err == nil {
			return writableFact(a.dir, dir)
		}
	}
}

func lockFact() proc.Fact {
	if info, err := os.Stat(journal.SharedLocks); err == nil && info.IsDir() {
		return proc.Fact{Name: "locks", Able: "yes", Detail: journal.SharedLocks + ", shared by all users"}
	}
	if os.Geteuid() == 0 {
		return proc.Fact{Name: "locks", Able: "yes", Detail: journal.SharedLocks + " is made by the first run"}
	}
	return proc.Fact{Name: "locks", Able: "partly", Detail: "this user's runs only, until root has run Simian since boot"}
}

func bootFact() proc.Fact {
	if guard.Systemd() {
		return proc.Fact{Name: "systemd", Able: "yes", Detail: "a guardian gets a scope of its own"}
	}
	return proc.Fact{Name: "systemd", Able: "no", Detail: "a guardian goes into the topmost cgroups instead"}
}

func (a *app) printCheck(r checkResult) {
	fmt.Fprintf(a.stdout, "simian %s   kernel %s   %s\n", r.Version, r.Kernel, r.Rights)
	w := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
	for _, f := range r.Facts {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", f.Name, f.Able, f.Detail)
	}
	_ = w.Flush()
	if len(r.Unfinished) == 0 {
		fmt.Fprintln(a.stdout, "  no run is unfinished")
		return
	}
	fmt.Fprintf(a.stdout, "  unfinished: %v; see simian status\n", r.Unfinished)
}

func writableFact(dir, parent string) proc.Fact {
	if err := unix.Access(parent, unix.W_OK|unix.X_OK); err != nil {
		return proc.Fact{Name: "journals", Able: "no", Detail: fmt.Sprintf("%s: %v (--state names another directory)", dir, err)}
	}
	return proc.Fact{Name: "journals", Able: "yes", Detail: dir}
}
