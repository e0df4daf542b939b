package op

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/simianhq/simian/experiment"
)

// Where a command runs.
const (
	Inside = "inside" // in the target: its root, namespaces, cgroups and user, with no more privileges than its first process has
	Beside = "beside" // with the host's files, user and privileges, in the target's network, PID, IPC and UTS namespaces
)

// Exec runs a command once, and waits for its end. The command of an undo
// stands in the journal, since another process may have to run it. That of a
// Do does not: it may hold secrets, and only the process that has planned it
// runs it; the journal has a reference.
type Exec struct {
	Run     experiment.RunID       `json:"run"`
	Process experiment.ProcessID   `json:"process"`
	Target  string                 `json:"target"` // its name, for people
	Where   string                 `json:"where"`
	Counts  []experiment.CgroupDir `json:"counts,omitempty"`  // the target's cgroups, where it runs in them
	Words   string                 `json:"words"`             // the command, for people: its name, and how many arguments
	Ref     string                 `json:"ref"`               // of the command and its undo: what this process knows them by
	Command []string               `json:"command,omitempty"` // of an undo
	Timeout experiment.Duration    `json:"timeout"`
	Expect  int                    `json:"expect,omitzero"` // its exit code, where all is well
	Undoes  bool                   `json:"undoes,omitzero"`

	host *Host
	ran  *commandEnd // how it ended
}

// NewExec returns the op that runs a command, and the one that runs its undo;
// nil where there is none.
func NewExec(host *Host, e Exec, undo []string) (do, gone *Exec) {
	do = &e
	do.host, do.Words = host, commandWords(e.Command)
	do.Ref = reference(host, e.Where, e.Process.Handle(), e.Command, undo)
	if held, ok := host.holds(do.held()).(heldCommand); !ok || !held.ran {
		host.hold(do.held(), heldCommand{args: e.Command})
	}
	do.Command = nil
	if len(undo) == 0 {
		return do, nil
	}
	back := *do
	back.Command, back.Words, back.Undoes, back.Expect = undo, commandWords(undo), true, 0
	return do, &back
}

// commandWords names a command without its arguments, which may be secrets.
func commandWords(command []string) string {
	switch n := len(command) - 1; n {
	case 0:
		return fmt.Sprintf("%q", command[0])
	case 1:
		return fmt.Sprintf("%q with an argument", command[0])
	default:
		return fmt.Sprintf("%q with %d arguments", command[0], n)
	}
}

// heldCommand is a command that this process has planned.
type heldCommand struct {
	args []string
	ran  bool // and its undo has not
}

// Close implements io.Closer.
func (heldCommand) Close() error { return nil }

// heldKey is what references are made with: nobody can try commands out on
// one that stands in a journal.
type heldKey [32]byte

// Close implements io.Closer.
func (heldKey) Close() error { return nil }

func reference(host *Host, parts ...any) string {
	const name = "exec key"
	key, ok := host.holds(name).(heldKey)
	if !ok {
		_, _ = rand.Read(key[:]) // never fails
		host.hold(name, key)
	}
	mac := hmac.New(sha256.New, key[:])
	fmt.Fprintf(mac, "%q", parts) // never fails
	return fmt.Sprintf("%x", mac.Sum(nil)[:4])
}

func (e *Exec) held() string { return "exec " + e.Ref }

// process is the cgroup that the command runs in.
func (e *Exec) process() helperProcess {
	return helperProcess{cgroup: fmt.Sprintf("simian-%s-exec-%s", e.Run, e.Ref), counts: e.Counts}
}

// String implements experiment.Op.
func (e *Exec) String() string {
	what := "run"
	if e.Undoes {
		what = "run the undo command"
	}
	return fmt.Sprintf("%s %s %s %s (%s), for at most %s", what, e.Words, e.Where, e.Target, e.Process, e.Timeout)
}

// Backend implements experiment.Backed.
func (e *Exec) Backend() string { return e.Where }

// Handles implements experiment.Handled. Two commands can run beside each
// other: what they change is for the user to know.
func (e *Exec) Handles() []string { return []string{"exec:" + e.Process.Handle() + ":" + e.Ref} }

// Apply implements experiment.Op. A Do that ended, however it did, is done; an
// undo that did not end as it should is an error, and runs again when it is
// applied again.
func (e *Exec) Apply(ctx context.Context) error {
	if e.ran != nil {
		return nil
	}
	command, err := e.command()
	if err != nil {
		return err
	}
	how, err := e.run(ctx, command)
	if err != nil {
		return fmt.Errorf("run %s %s %s: %w", e.Words, e.Where, e.Process, err)
	}
	if e.Undoes {
		if !how.well(e.Expect) {
			return fmt.Errorf("the undo command %s: %s", e.Words, how)
		}
		e.host.drop(e.held())
	}
	e.ran = how
	return nil
}

// command returns what is to be run. From here on there is something to undo.
func (e *Exec) command() ([]string, error) {
	if e.Undoes {
		return e.Command, nil
	}
	held, ok := e.host.holds(e.held()).(heldCommand)
	if !ok {
		return nil, errors.New("the command is not in the journal: only the process that planned it knows it")
	}
	held.ran = true
	e.host.hold(e.held(), held)
	return held.args, nil
}

// Verify implements experiment.Verifier. Whether an undo was run is known to
// the process that ran it; another one takes the journal at its word.
func (e *Exec) Verify(context.Context) (experiment.Evidence, error) {
	held, _ := e.host.holds(e.held()).(heldCommand)
	switch {
	case e.ran != nil && e.ran.well(e.Expect):
		return experiment.Evidence{InForce: true, What: fmt.Sprintf("%s: %s", e.Words, e.ran)}, nil
	case e.ran != nil:
		return experiment.Evidence{What: fmt.Sprintf("%s: %s", e.Words, e.ran), Hint: e.ran.hint(e)}, nil
	case e.Undoes && !held.ran:
		return experiment.Evidence{InForce: true, What: "nothing is left to undo that this process knows of"}, nil
	}
	return experiment.Evidence{What: e.Words + " has not been run"}, nil
}

// commandEnd is how a command ended.
type commandEnd struct {
	code   int
	signal string // that killed it, "" for none
	late   bool   // it was killed, since it took too long
	took   time.Duration
	said   string // the last of what it wrote
}

func (r *commandEnd) well(expect int) bool { return r.signal == "" && !r.late && r.code == expect }

// String gives "exit 3 after 12ms", and what it wrote last where that is not 0.
func (r *commandEnd) String() string {
	took := r.took.Round(time.Millisecond)
	what := fmt.Sprintf("exit %d after %s", r.code, took)
	switch {
	case r.late:
		what = fmt.Sprintf("killed after %s, with all that it had started", took)
	case r.signal != "":
		what = fmt.Sprintf("killed by %s after %s", r.signal, took)
	case r.code == 0:
		return what
	}
	if r.said != "" {
		what += ": " + r.said
	}
	return what
}

func (r *commandEnd) hint(e *Exec) string {
	if r.late {
		return "give it a longer timeout, or make it quicker"
	}
	return fmt.Sprintf("only exit %d says that it did what it should (expect)", e.Expect)
}
