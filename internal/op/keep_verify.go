package op

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// Verify implements experiment.Verifier. It waits until the container is as
// ordered, or no longer, and reads of the kernel what its process is.
func (k *Keep) Verify(ctx context.Context) (experiment.Evidence, error) {
	box, err := k.open()
	if err != nil {
		return experiment.Evidence{}, err
	}
	defer box.Close()
	if !k.Given {
		return k.verifyBack(ctx, box)
	}
	if _, err := box.Lstat(k.Order.name() + Ordered); err != nil {
		return experiment.Evidence{What: k.Order.Container + " has no such order"}, nil
	}
	a, err := k.await(ctx, box, func(a *Answer) bool { return a != nil && (a.Done || a.Refused != "") })
	switch {
	case errors.Is(err, experiment.ErrGone):
		return experiment.Evidence{}, err
	case err != nil:
		return k.notYet(box, err)
	case a.Refused != "":
		return experiment.Evidence{What: a.Refused}, nil
	case k.Order.Holds():
		return k.ended(a)
	}
	return k.anew(a)
}

// verifyBack tells whether the order is taken back.
func (k *Keep) verifyBack(ctx context.Context, box *os.Root) (experiment.Evidence, error) {
	_, err := k.await(ctx, box, func(*Answer) bool { return !k.stands(box) })
	switch {
	case errors.Is(err, experiment.ErrGone):
		return experiment.Evidence{}, err
	case err != nil:
		return experiment.Evidence{What: err.Error()}, nil
	}
	return experiment.Evidence{InForce: true, What: "its keeper has put it back"}, nil
}

// notYet is what a container says that has not ended yet, though it was asked
// to: it may take its grace, and is killed then, whatever becomes of this
// process.
func (k *Keep) notYet(box *os.Root, late error) (experiment.Evidence, error) {
	a, err := k.answer(box)
	if err != nil || a == nil || a.Signal == "" {
		return experiment.Evidence{What: late.Error()}, err
	}
	return experiment.Evidence{
		InForce: k.Order.What == OrderStop, Felt: experiment.FeltNo,
		What: fmt.Sprintf("asked to end by %s, and has not yet: it is killed after %s", a.Signal, a.Grace),
		Hint: "a longer for, or a shorter grace",
	}, nil
}

// ended tells how a container was ended.
func (k *Keep) ended(a *Answer) (experiment.Evidence, error) {
	if k.fs.Alive(k.Order.Process) {
		return experiment.Evidence{What: k.Order.Process.String() + " runs still"}, nil
	}
	words := fmt.Sprintf("ended %s after %s (%s)", shortly(a.Took), a.Signal, a.Ended)
	if a.Killed {
		words = fmt.Sprintf("did not end within %s of %s, and was killed", a.Grace, a.Signal)
	}
	if k.Order.What == OrderRemove {
		words = fmt.Sprintf("removed in %s, with %d files of %d bytes that it had written", shortly(a.Took), a.Files, a.Bytes)
	}
	ev := experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: words + "; held down"}
	switch {
	case a.Again:
		ev.What = words + fmt.Sprintf("; started again after %s", k.Order.RestartAfter)
	case a.Process.PID != 0:
		ev = experiment.Evidence{What: "it runs: " + a.Process.String()}
	}
	return ev, nil
}

// anew tells what became of a container that was started with other settings.
func (k *Keep) anew(a *Answer) (experiment.Evidence, error) {
	ev := experiment.Evidence{InForce: true, What: fmt.Sprintf("restarted in %s %s; %s", shortly(a.Took), k.Order.settings(), a.state())}
	if a.Exits > 0 || a.State == string(experiment.ContainerUnhealthy) || a.Process.PID == 0 {
		ev.Felt = experiment.FeltYes
	}
	if a.Process.PID == 0 {
		if k.Order.What == OrderClocks && a.Exits == 0 { // it could not be started with them
			ev.InForce = false
		}
		return ev, nil
	}
	wrong, err := k.wrong(a.Process.PID)
	if err != nil && !k.fs.Alive(a.Process) { // it has just ended: the next one has them too
		return ev, nil
	}
	if wrong != "" {
		return experiment.Evidence{What: wrong}, err
	}
	return ev, err
}

func (o Order) settings() string {
	if o.What == OrderCapabilities {
		return "without " + strings.Join(o.Drop, ", ")
	}
	return fmt.Sprintf("with its clocks moved by %s (monotonic) and %s (boottime)", time.Duration(o.MonotonicNs), time.Duration(o.BoottimeNs))
}

// state is what a container that was started anew is in now.
func (a *Answer) state() string {
	var words []string
	switch {
	case a.Exits > 1:
		words = append(words, fmt.Sprintf("ended %d times, at last: %s", a.Exits, a.Exit))
	case a.Exits == 1:
		words = append(words, "ended once: "+a.Exit)
	}
	switch experiment.ContainerState(a.State) {
	case experiment.ContainerHealthy:
		words = append(words, "running, healthy")
	case experiment.ContainerUnhealthy:
		words = append(words, "running, unhealthy: "+a.Why)
	case experiment.ContainerExited:
		if a.Why != "" {
			words = append(words, "not started: "+a.Why)
		}
	default:
		words = append(words, a.State)
	}
	return strings.Join(words, "; ")
}

// wrong tells in what a process is not as ordered.
func (k *Keep) wrong(pid int) (string, error) {
	if k.Order.What == OrderClocks {
		return k.wrongClocks(pid)
	}
	caps, err := k.fs.Caps(pid)
	if err != nil {
		return "", err
	}
	for _, name := range k.Order.Drop {
		if slices.Contains(caps.Bounding.Names(), name) || slices.Contains(caps.Permitted.Names(), name) {
			return fmt.Sprintf("pid %d has %s", pid, name), nil
		}
	}
	return "", nil
}

// wrongClocks compares the offsets of a process's time namespace with those
// ordered (time_namespaces(7)).
func (k *Keep) wrongClocks(pid int) (string, error) {
	data, err := os.ReadFile(filepath.Join(k.fs.Proc, strconv.Itoa(pid), "timens_offsets"))
	if err != nil {
		return "", err
	}
	want := map[string]int64{"monotonic": k.Order.MonotonicNs, "boottime": k.Order.BoottimeNs}
	for line := range strings.Lines(string(data)) {
		var clock string
		var sec, nsec int64
		if _, err := fmt.Sscan(line, &clock, &sec, &nsec); err != nil {
			return "", fmt.Errorf("read timens_offsets of pid %d: %w", pid, err)
		}
		if off := sec*int64(time.Second) + nsec; off != want[clock] {
			return fmt.Sprintf("the clock %s of pid %d is moved by %s", clock, pid, time.Duration(off)), nil
		}
	}
	return "", nil
}

// shortly rounds a duration for people.
func shortly(d experiment.Duration) string {
	if d.D() > time.Second {
		return d.D().Round(10 * time.Millisecond).String()
	}
	return d.D().Round(100 * time.Microsecond).String()
}

// DropCaps returns the names of caps without those dropped, each with CAP_.
func DropCaps(caps, drop []string) []string {
	return slices.DeleteFunc(slices.Clone(caps), func(c string) bool {
		return slices.Contains(drop, strings.TrimPrefix(c, "CAP_"))
	})
}

// CheckCaps says which of names, without CAP_, the kernel does not know.
func CheckCaps(names []string) error {
	all := proc.CapSet(1)<<len(proc.CapabilityNames()) - 1
	for _, name := range names {
		if slices.Contains(all.Names(), name) {
			continue
		}
		near := experiment.Nearest(name, all.Names())
		if near != "" {
			near = fmt.Sprintf(" (did you mean %q?)", near)
		}
		return fmt.Errorf("unknown capability %q%s\n        capabilities: %s", name, near, strings.Join(all.Names(), " "))
	}
	return nil
}
