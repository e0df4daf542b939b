package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// apart is a network namespace of a process's own.
var apart = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}

// withLo starts a victim in a network of its own, whose lo is up.
func withLo(t testing.TB) *victim {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces can be made by root only")
	}
	v := newVictim(t, apart)
	up(t, v)
	return v
}

func up(t testing.TB, v *victim) {
	t.Helper()
	must(t, procDo(v.PIDs[0].PID, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	}))
}

func procDo(pid int, fn func() error) error {
	return proc.Do(fmt.Sprintf("/proc/%d/ns/net", pid), fn)
}

// held tells what an exhaust could change of a target.
func held(target experiment.Target) string {
	var words []string
	all, err := host.Within(target)
	if err != nil {
		return err.Error()
	}
	for _, s := range all {
		var l unix.Rlimit
		_ = unix.Prlimit(s.PID, unix.RLIMIT_NOFILE, nil, &l)
		words = append(words, fmt.Sprintf("%d: %d/%d files", s.PID, l.Cur, l.Max))
	}
	if len(target.PIDs) > 0 && host.Alive(target.PIDs[0]) {
		ns, err := host.NetworkOf(target)
		if err == nil {
			_ = host.InNetwork(ns, func() error {
				reserved, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
				v4, _ := os.ReadFile("/proc/thread-self/net/tcp")
				v6, _ := os.ReadFile("/proc/thread-self/net/tcp6")
				words = append(words, "reserved "+string(reserved), fmt.Sprintf("connected %v", strings.Contains(string(v4)+string(v6), " 01 ")))
				return nil
			})
		}
	}
	for _, dir := range []string{target.Cgroup.V2.Path, target.Cgroup.V1["pids"].Path} {
		found, _ := filepath.Glob(filepath.Join(dir, fmt.Sprintf("simian-abcd23-*-%d", target.PIDs[0].PID)))
		words = append(words, found...)
	}
	return strings.Join(words, "\n")
}

var exhausts = []Exhaust{{What: ofFiles}, {What: ofPorts}, {What: ofPIDs}, {What: ofConnections, Port: 8080, Count: 50}}

func TestExhaustConformance(t *testing.T) {
	t.Parallel()
	h := op.NewHost(host)
	for _, e := range exhausts {
		e.host = h
		for name, launch := range map[string]func(testing.TB) *victim{
			"process":   func(t testing.TB) *victim { return withLo(t) },
			"container": func(t testing.TB) *victim { return newContainedVictim(t, box.Limits{Pids: 60}) },
		} {
			if e.What == ofPIDs && name == "process" {
				continue // it has no limit
			}
			t.Run(e.What+" "+name, func(t *testing.T) {
				t.Parallel()
				var v *victim
				experimenttest.Fault(t, experimenttest.FaultCase{
					Fault: &e, Ops: h.Ops(), Snapshot: held,
					Target: func(t testing.TB) experiment.Target {
						v = launch(t)
						v.ask("listen")
						return v.Target
					},
					Gone: func(testing.TB, experiment.Target) {
						v.end()
						await(t, "death", func() bool { return !host.Alive(v.PIDs[0]) })
					},
				})
			})
		}
	}
}

// TestExhaustFiles leaves a process descriptors, and then none; its children
// have no more, and all is as before when it is over, theirs too.
func TestExhaustFiles(t *testing.T) {
	t.Parallel()
	for name, launch := range map[string]func(testing.TB) *victim{
		"process":   func(t testing.TB) *victim { return newVictim(t, nil) },
		"container": func(t testing.TB) *victim { return newContainedVictim(t, box.Limits{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := launch(t)
			h := op.NewHost(host)
			before := held(v.Target)
			steps := strike(t, &Exhaust{What: ofFiles, Leave: 2, host: h}, v.Target)
			e := verified(t, steps[0].Do)
			if !e.InForce || e.Felt != experiment.FeltNo || !strings.Contains(e.Hint, "2 descriptors are free") {
				t.Errorf("%+v", e)
			}
			for i, want := range []string{"ok", "ok", "error: open /dev/null: too many open files"} {
				if got := v.ask("open"); got != want {
					t.Errorf("open %d: %s, want %s", i+1, got, want)
				}
			}
			e = verified(t, steps[0].Do)
			if !e.InForce || e.Felt == experiment.FeltNo || !strings.HasPrefix(e.What, "open files ") {
				t.Errorf("%+v", e)
			}
			t.Log(e.What)
			takeBack(t, elsewhere(t, steps))
			if after := held(v.Target); after != before {
				t.Errorf("before %s\nafter %s", before, after)
			}
			if got := v.ask("open"); got != "ok" {
				t.Error(got)
			}
		})
	}
}

// TestExhaustFilesHeirs forks while the limit is lowered: the child has it too
// until it is put back.
func TestExhaustFilesHeirs(t *testing.T) {
	t.Parallel()
	v := newVictim(t, nil)
	h := op.NewHost(host)
	var before unix.Rlimit
	must(t, unix.Prlimit(v.PIDs[0].PID, unix.RLIMIT_NOFILE, nil, &before))
	steps := strike(t, &Exhaust{What: ofFiles, Leave: 12, host: h}, v.Target)
	pid := v.fork()
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	if e := verified(t, steps[0].Undo); e.InForce {
		t.Errorf("taken back, it says: %+v", e)
	}
	takeBack(t, elsewhere(t, steps))
	for _, pid := range []int{pid, v.PIDs[0].PID} {
		var now unix.Rlimit
		must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &now))
		if now != before {
			t.Errorf("pid %d: %+v, before %+v", pid, now, before)
		}
	}
	if e := verified(t, steps[0].Undo); !e.InForce {
		t.Errorf("%+v", e)
	}
}

// TestExhaustFilesSuperseded has the process set its limit itself.
func TestExhaustFilesSuperseded(t *testing.T) {
	t.Parallel()
	v := newVictim(t, nil)
	steps, err := (&Exhaust{What: ofFiles, host: op.NewHost(host)}).Plan(t.Context(), "abcd23", v.Target)
	must(t, err)
	must(t, steps[0].Do.Apply(t.Context()))
	var now unix.Rlimit
	must(t, unix.Prlimit(v.PIDs[0].PID, unix.RLIMIT_NOFILE, nil, &now))
	now.Cur = 100
	must(t, unix.Prlimit(v.PIDs[0].PID, unix.RLIMIT_NOFILE, &now, nil))
	if e := verified(t, steps[0].Do); e.InForce || !strings.Contains(e.Hint, "set its limit itself") {
		t.Errorf("%+v", e)
	}
	var superseded *experiment.SupersededError
	if err := steps[0].Undo.Apply(t.Context()); !errors.As(err, &superseded) || superseded.Present != "100" {
		t.Error(err)
	}
}

// TestExhaustPorts has a target connect, by all families and protocols.
func TestExhaustPorts(t *testing.T) {
	t.Parallel()
	for name, launch := range map[string]func(testing.TB) *victim{
		"process":   withLo,
		"container": func(t testing.TB) *victim { return newContainedVictim(t, box.Limits{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := launch(t)
			v.ask("listen")
			must(t, procDo(v.PIDs[0].PID, func() error {
				return os.WriteFile("/proc/sys/net/ipv4/ip_local_reserved_ports", []byte("80,8000-8010,40000"), 0)
			}))
			before := held(v.Target)
			steps := strike(t, &Exhaust{What: ofPorts, host: op.NewHost(host)}, v.Target)
			for _, dial := range []string{"tcp 127.0.0.1:8080", "tcp [::1]:8080", "udp 127.0.0.1:9", "udp [::1]:9"} {
				got := v.ask(dial)
				if !strings.HasSuffix(got, "cannot assign requested address") && !(strings.HasPrefix(dial, "udp") && strings.HasSuffix(got, "resource temporarily unavailable")) {
					t.Errorf("%s: %s", dial, got)
				}
			}
			e := verified(t, steps[0].Do)
			if want := "connect: cannot assign requested address (IPv4), cannot assign requested address (IPv6)"; !e.InForce || e.What != want {
				t.Errorf("%+v", e)
			}
			takeBack(t, elsewhere(t, steps))
			if after := held(v.Target); after != before {
				t.Errorf("before %s\nafter %s", before, after)
			}
			if got := v.ask("tcp 127.0.0.1:8080"); got != "ok" {
				t.Error(got)
			}
		})
	}
}

func TestExhaustPortsLeave(t *testing.T) {
	t.Parallel()
	v := withLo(t)
	v.ask("listen")
	strike(t, &Exhaust{What: ofPorts, Leave: 2, host: op.NewHost(host)}, v.Target)
	var got []string
	for range 3 {
		got = append(got, v.ask("tcp [::1]:8080"))
	}
	if !slices.Equal(got[:2], []string{"ok", "ok"}) || !strings.HasSuffix(got[2], "cannot assign requested address") {
		t.Error(got)
	}
}

// TestExhaustPIDs has a container fork when all pids but a few are taken.
func TestExhaustPIDs(t *testing.T) {
	t.Parallel()
	for _, leave := range []int{0, 2} {
		t.Run(strconv.Itoa(leave), func(t *testing.T) {
			t.Parallel()
			v := newContainedVictim(t, box.Limits{Pids: 80})
			v.fork() // so that the runtime has its threads
			before := held(v.Target)
			steps := strike(t, &Exhaust{What: ofPIDs, Leave: leave, host: op.NewHost(host)}, v.Target)
			if e := verified(t, steps[0].Do); !e.InForce || !strings.HasPrefix(e.What, fmt.Sprintf("pids.current %d of pids.max 80", 80-leave)) {
				t.Errorf("%+v", e)
			}
			refused := ""
			for range leave + 1 {
				refused = v.ask("fork")
			}
			if !strings.HasSuffix(refused, "resource temporarily unavailable") {
				t.Errorf("fork: %s", refused)
			}
			e := verified(t, steps[0].Do)
			if !e.InForce || e.Felt != experiment.FeltYes {
				t.Errorf("%+v", e)
			}
			t.Log(e.What)
			takeBack(t, steps)
			if got := v.ask("fork"); !strings.HasPrefix(got, "ok") {
				t.Errorf("when it is over: %s", got)
			}
			if after := held(v.Target); strings.Contains(after, "simian-abcd23") != strings.Contains(before, "simian-abcd23") {
				t.Errorf("before %s\nafter %s", before, after)
			}
		})
	}
}

// TestExhaustConnections holds connections to a listener that accepts none,
// and to one that accepts all.
func TestExhaustConnections(t *testing.T) {
	t.Parallel()
	for accepts, c := range map[string]struct {
		felt experiment.Felt
		what string
	}{
		"listen": {experiment.FeltYes, "its backlog is full"},
		"serve":  {experiment.FeltNo, "60 of 60 connections held to 127.0.0.1:8080"},
	} {
		t.Run(accepts, func(t *testing.T) {
			t.Parallel()
			v := withLo(t)
			if got := v.ask(accepts); got != "ok" {
				t.Fatal(got)
			}
			steps := strike(t, &Exhaust{What: ofConnections, Port: 8080, Count: 60, host: op.NewHost(host)}, v.Target)
			await(t, c.what, func() bool {
				e := verified(t, steps[0].Do)
				return e.InForce && e.Felt == c.felt && strings.Contains(e.What, c.what)
			})
			t.Log(verified(t, steps[0].Do).What)
			got := v.ask("tcp 127.0.0.1:8080")
			if accepts == "listen" && !strings.HasSuffix(got, "i/o timeout") {
				t.Errorf("one more: %s", got)
			}
			takeBack(t, steps)
			await(t, "no connection", func() bool { return accepts == "serve" || !strings.Contains(held(v.Target), "connected true") })
		})
	}
}

// TestExhaustGolden writes down what is planned.
func TestExhaustGolden(t *testing.T) {
	t.Parallel()
	v := newContainedVictim(t, box.Limits{Pids: 60})
	v.ask("listen")
	h := op.NewHost(host)
	ns, err := host.NetworkOf(v.Target)
	must(t, err)
	dir, _, err := host.OwnController(v.Target, "pids")
	must(t, err)
	pid := strconv.Itoa(v.PIDs[0].PID)
	names := strings.NewReplacer(
		ns.Handle(), "net:4026533210:7", v.PIDs[0].Handle(), "process:812:99123", "-"+pid, "-812", "pid "+pid, "pid 812",
		dir.Handle(), "cgroup:31:/sys/fs/cgroup/machine/web", dir.Path, "/sys/fs/cgroup/machine/web",
	)
	for _, e := range exhausts {
		e.host = h
		steps, err := e.Plan(t.Context(), "abcd23", v.Target)
		must(t, err)
		text := regexp.MustCompile(`from \d+ to \d+`).ReplaceAllString(names.Replace(describe(steps)), "from N to N")
		golden(t, "exhaust-"+e.What, text)
	}
}

func verified(t testing.TB, o experiment.Op) experiment.Evidence {
	t.Helper()
	e, err := o.(experiment.Verifier).Verify(t.Context())
	must(t, err)
	return e
}

func TestExhaustValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		e    Exhaust
		want string
	}{
		{Exhaust{What: ofFiles, Leave: 3}, ""},
		{Exhaust{What: ofConnections, Port: 80, Count: 1}, ""},
		{Exhaust{}, "what: say what: connections files pids ports"},
		{Exhaust{What: "file"}, `what: unknown word "file" (did you mean "files"?)` + "\n        words: connections files pids ports"},
		{Exhaust{What: ofPIDs, Leave: -1}, "leave: -1 is less than none"},
		{Exhaust{What: ofConnections, Port: 80, Count: 1, Leave: 1}, "leave: connections are held by number: say count"},
		{Exhaust{What: ofConnections, Count: 1}, "port: 0 is not a port (1 to 65535): say which one the target listens on"},
		{Exhaust{What: ofConnections, Port: 80}, "count: 0 is not a number of connections (1 to 20000)"},
		{Exhaust{What: ofConnections, Port: 80, Count: 20001}, "count: 20001 is not a number of connections (1 to 20000)"},
		{Exhaust{What: ofPorts, Port: 80}, "port: goes with what: connections"},
		{Exhaust{What: ofPorts, Count: 8}, "count: goes with what: connections; say leave"},
	} {
		var field *experiment.FieldError
		err := c.e.Validate()
		if (err == nil) != (c.want == "") || err != nil && (!errors.As(err, &field) || field.Field+": "+field.Err.Error() != c.want) {
			t.Errorf("%+v: %v, want %s", c.e, err, c.want)
		}
	}
}

// TestExhaustRefused plans what can't be.
func TestExhaustRefused(t *testing.T) {
	t.Parallel()
	v := newVictim(t, nil) // in the host's network, without a cgroup of its own
	for _, c := range []struct {
		e    Exhaust
		is   error
		want string
	}{
		{Exhaust{What: ofPorts}, experiment.ErrProtected, "the network of web is the host's own, whose ports all need"},
		{Exhaust{What: ofPIDs}, experiment.ErrUnsupported, "others would have no pids left either: it has no cgroup of its own with the pids controller"},
		{Exhaust{What: ofConnections, Port: 8080, Count: 1}, experiment.ErrNoMatch, "it does not listen on port 8080 of TCP (ports it listens on: none)"},
		{Exhaust{What: ofFiles, Leave: 1 << 30}, experiment.ErrBusy, "none of its processes may open more than 1073741824 files already"},
	} {
		c.e.host = op.NewHost(host)
		_, err := c.e.Plan(t.Context(), "abcd23", v.Target)
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s", c.e, err, c.want)
		}
	}
	for pids, want := range map[int64]string{0: "it has no limit of pids (pids.max): the host's would be exhausted", 16: "are free: what takes all but 0 needs 16 for itself"} {
		c := newContainedVictim(t, box.Limits{Pids: pids})
		_, err := (&Exhaust{What: ofPIDs, host: op.NewHost(host)}).Plan(t.Context(), "abcd23", c.Target)
		if !errors.Is(err, experiment.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v, want %s", pids, err, want)
		}
	}
}
