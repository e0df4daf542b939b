package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/engine"
	"github.com/simianhq/simian/internal/guard"
	"github.com/simianhq/simian/internal/journal"
	"github.com/simianhq/simian/internal/kube"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/policy"
	"github.com/simianhq/simian/internal/probe"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/report"
	"github.com/simianhq/simian/internal/runtime"
	"github.com/simianhq/simian/monkeys"
	"github.com/simianhq/simian/targets"
	"github.com/simianhq/simian/targets/native"
	"github.com/simianhq/simian/targets/pod"
)

// app is what the commands share: the streams, and the wiring.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	fs             proc.FS
	lab            *native.Current // of the experiment that this process runs
	kube           *kube.Client    // connects once something asks
	dir            string          // of journals and history
	policy         string          // the file of this host's policy
	policyOwner    int             // whom it must belong to

	tweak func(*engine.Engine) // of tests: changes how an engine is wired
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *app {
	fs := proc.Host()
	return &app{stdin: stdin, stdout: stdout, stderr: stderr, fs: fs, lab: native.NewCurrent(fs), kube: kube.New(), dir: journal.Dir(), policy: policy.Path}
}

func (a *app) loader() experiment.Loader {
	return experiment.Loader{
		Faults: a.faults(), Targets: a.selectors(), Probes: probe.All(probe.Env{Dial: a.lab.Dial}),
	}
}

func (a *app) faults() experiment.Catalog[experiment.Fault] {
	all := monkeys.Faults(a.fs)
	maps.Copy(all, monkeys.Kubernetes(a.kube))
	return all
}

func (a *app) selectors() experiment.Catalog[experiment.Selector] {
	all := targets.All(a.fs, a.lab)
	maps.Copy(all, targets.Kubernetes(pod.Env{FS: a.fs, Kube: a.kube, Local: runtime.NewCRI()}))
	return all
}

func (a *app) codec() experiment.Codec {
	ops := op.All(a.fs)
	maps.Copy(ops, native.Ops(a.fs))
	maps.Copy(ops, runtime.Ops(runtime.New()))
	maps.Copy(ops, a.kube.Ops())
	return experiment.Codec{Ops: ops, Targets: a.selectors()}
}

// reader opens the journals without changing anything.
func (a *app) reader() (*journal.Store, error) { return journal.NewReader(a.dir, a.codec()) }

// writable is the journals and locks of somebody who runs, or takes back.
type writable struct {
	*journal.Store
	locks *journal.Locks
}

func (a *app) writable() (*writable, error) {
	store, err := journal.New(a.dir, a.codec(), journal.Now)
	if err != nil {
		return nil, err
	}
	locks, err := journal.NewLocks(journal.SharedLocks, filepath.Join(store.Dir(), "locks"))
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &writable{store, locks}, nil
}

// Close gives up what is held.
func (w *writable) Close() error { return errors.Join(w.locks.Close(), w.Store.Close()) }

// handles are the locks of one state directory's runs.
type handles struct {
	locks *journal.Locks
	dir   string
}

func (h handles) Acquire(run experiment.RunID, handle string) error {
	return h.locks.Acquire(run, h.dir, handle)
}

func (h handles) Release(run experiment.RunID) error {
	return errors.Join(h.locks.Release(run), h.locks.ReleaseDead(run, h.dir))
}

// engine wires the engine to this host. Journals may be nil to plan only.
func (a *app) engine(w *writable) *engine.Engine {
	e := &engine.Engine{
		System:  proc.System{FS: a.fs, Objects: a.kube},
		Boot:    proc.BootTime,
		Version: version(),
		Load: func(traffic []experiment.Traffic) (engine.Load, error) {
			return probe.NewLoad(probe.Env{Dial: a.lab.Dial}, traffic)
		},
		Struck: func(run experiment.RunID) { a.lab.Strike(native.LabDir(a.dir, run)) },
		Guardian: guard.Guard{FS: a.fs, TakeBack: func(run experiment.RunID, cause experiment.Cause) []string {
			return []string{"simian", "rollback", "--state", a.dir, "--cause", string(cause), string(run)}
		}},
	}
	if w != nil {
		e.Journals, e.Handles = w.Store, handles{w.locks, w.Dir()}
	}
	if a.tweak != nil {
		a.tweak(e)
	}
	return e
}

// version returns Simian's version, as the build recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// style is how to write for people on w.
func style(w io.Writer) (s report.Style, terminal bool) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return report.Style{Width: 100}, false
	}
	s.Width = 100
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		s.Width = width
	}
	s.Color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s, true
}

// output is the -o flag.
type output struct{ format string }

func (o *output) add(c *cobra.Command) {
	c.Flags().StringVarP(&o.format, "output", "o", "text", "text, for people, or json")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// json tells whether JSON is asked for.
func (o *output) json() (bool, error) {
	switch o.format {
	case "text":
		return false, nil
	case "json":
		return true, nil
	}
	return false, usage(fmt.Errorf("-o %s is not known\n        formats: text json", o.format))
}
