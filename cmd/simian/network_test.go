package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/report"
)

// wire is two processes in network namespaces of their own, joined by a veth:
// the target at 10.78.0.2, and its peer at 10.78.0.1.
type wire struct {
	*lab
	target, peer *exec.Cmd
}

func newWire(t *testing.T) *wire {
	t.Helper()
	needRoot(t)
	w := &wire{lab: newLab(t), target: inNewNet(t), peer: inNewNet(t)}
	w.in(w.target, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer0", PeerNamespace: netlink.NsPid(w.peer.Process.Pid)})
	})
	w.in(w.target, func() error { return raise("eth0", "10.78.0.2/24") })
	w.in(w.peer, func() error { return raise("peer0", "10.78.0.1/24") })
	for until := time.Now().Add(10 * time.Second); w.roundTrip() < 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the wire does not work")
		}
	}
	return w
}

func inNewNet(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// raise sets a link and lo up, and IPv6 off.
func raise(name, address string) error {
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0) // of this thread's namespace
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	for _, n := range []string{"lo", name} {
		link, err := netlink.LinkByName(n)
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err == nil && n == name {
			err = netlink.AddrAdd(link, addr)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *wire) in(c *exec.Cmd, fn func() error) {
	w.t.Helper()
	if err := proc.Do(fmt.Sprintf("/proc/%d/ns/net", c.Process.Pid), fn); err != nil {
		w.t.Fatal(err)
	}
}

// roundTrip sends a packet from the target to its peer and back, and returns
// how long that took; -1 where it was lost.
func (w *wire) roundTrip() time.Duration {
	var from, to net.PacketConn
	var err error
	w.in(w.target, func() error { from, err = net.ListenPacket("udp", "10.78.0.2:0"); return err })
	defer from.Close()
	w.in(w.peer, func() error { to, err = net.ListenPacket("udp", "10.78.0.1:0"); return err })
	defer to.Close()
	start := time.Now()
	_, _ = from.WriteTo([]byte("there"), to.LocalAddr())
	for _, c := range []net.PacketConn{to, from} {
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		_, back, err := c.ReadFrom(make([]byte, 8))
		if err != nil {
			return -1
		}
		if c == to {
			_, _ = to.WriteTo([]byte("back"), back)
		}
	}
	return time.Since(start)
}

// snapshot is the kernel state of the target's network.
func (w *wire) snapshot() []string {
	w.t.Helper()
	fs := proc.Host()
	t, err := fs.Target(w.target.Process.Pid)
	if err != nil {
		w.t.Fatal(err)
	}
	seen, err := proc.System{FS: fs}.Observe(w.t.Context(), t)
	if err != nil {
		w.t.Fatal(err)
	}
	var lines []string
	for _, o := range seen {
		if strings.HasPrefix(o.Object, "net:") {
			lines = append(lines, o.Lines...)
		}
	}
	return lines
}

// same wants the target's network to be as before, soon.
func (w *wire) same(before []string) {
	w.t.Helper()
	w.clean()
	var diff string
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if diff = cmp.Diff(before, w.snapshot()); diff == "" {
			return
		}
	}
	w.t.Errorf("the target's network is not as it was (-before +after)\n%s", diff)
}

func (w *wire) action(fault, length string) string {
	return fmt.Sprintf("  - {fault: {%s}, target: {type: process, pid: %d}, for: %s}\n", fault, w.target.Process.Pid, length)
}

// result runs a method, and returns its result.
func (w *wire) result(code int, method string) report.Result {
	w.t.Helper()
	o := w.expect(code, "run", "-o", "json", w.file(method))
	var r report.Result
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// networkFaults are one of each kind, and what must be so while it is on.
var networkFaults = []struct{ name, fault string }{
	{"delay", "type: latency, delay: 30ms"},
	{"delay of what comes in", "type: latency, delay: 30ms, direction: ingress"},
	{"delay by a filter", `type: latency, delay: 30ms, direction: both, protocol: udp, cidrs: [10.78.0.0/24]`},
	{"delay by the queue", "type: latency, delay: 30ms, backend: queue, direction: both"},
	{"loss", "type: latency, loss: 100"},
	{"partition", "type: partition, cidrs: [10.78.0.1]"},
}

// TestNetworkFaults injects each, feels it, and wants all to be as before.
func TestNetworkFaults(t *testing.T) {
	for _, c := range networkFaults {
		t.Run(c.name, func(t *testing.T) {
			w := newWire(t)
			before := w.snapshot()
			p, _ := w.start(experiment.EventInjected, "run", w.file(w.action(c.fault, "1h")))
			took := w.roundTrip()
			if strings.Contains(c.fault, "delay") && took < 30*time.Millisecond || !strings.Contains(c.fault, "delay") && took >= 0 {
				t.Errorf("a round trip takes %s", took)
			}
			_ = p.cmd.Process.Signal(unix.SIGINT)
			<-p.done
			if code := p.cmd.ProcessState.ExitCode(); code != experiment.Aborted.ExitCode() {
				t.Errorf("exit %d\n%s%s", code, p.out.String(), p.err.String())
			}
			if took := w.roundTrip(); took < 0 {
				t.Error("packets are still lost")
			}
			w.same(before)
		})
	}
}

// TestNetworkFaultsKilled kills the runner while each is on.
func TestNetworkFaultsKilled(t *testing.T) {
	for _, c := range networkFaults {
		t.Run(c.name, func(t *testing.T) {
			w := newWire(t)
			before := w.snapshot()
			p, run := w.start(experiment.EventInjected, "run", w.file(w.action(c.fault, "1h")))
			_ = p.cmd.Process.Kill()
			w.waitForGuardians()
			w.same(before)
			if took := w.roundTrip(); took < 0 {
				t.Error("packets are still lost")
			}
			w.undoneOnce(t, run)
		})
	}
}

// TestLatencyMeasured looks for the figures in the result.
func TestLatencyMeasured(t *testing.T) {
	w := newWire(t)
	r := w.result(0, w.action("type: latency, delay: 40ms", "2s"))
	f := r.Faults[0]
	if f.Backend != "queue" && f.Backend != "netem" || len(f.Measured) != 2 {
		t.Fatalf("backend %q, measured %+v", f.Backend, f.Measured)
	}
	before, during := f.Measured[0], f.Measured[1]
	if before.Phase != experiment.PhaseBefore || before.Sent == 0 || before.P50 > 0.02 {
		t.Errorf("before: %+v", before)
	}
	if during.Phase != experiment.PhaseDuring || during.Sent < 5 || during.P50 < 0.04 {
		t.Errorf("during: %+v", during)
	}
}

// TestFilterMatchesNothing wants a hint.
func TestFilterMatchesNothing(t *testing.T) {
	for _, fault := range []string{"type: latency, delay: 10ms", "type: partition"} {
		w := newWire(t)
		p, _ := w.start(experiment.EventInjected, "run", w.file(w.action(fault+", protocol: udp, ports: 5433", "500ms")))
		w.roundTrip()
		<-p.done
		if code := p.cmd.ProcessState.ExitCode(); code != experiment.NotInjected.ExitCode() {
			t.Errorf("%s: exit %d", fault, code)
		}
		if said := strings.Join(strings.Fields(p.out.String()), " "); !strings.Contains(said, "nothing matched") || !strings.Contains(said, "0 went to port 5433") {
			t.Errorf("%s: %s", fault, said)
		}
	}
}

// TestNetworkBadInput wants one clear error, and nothing touched.
func TestNetworkBadInput(t *testing.T) {
	w := newWire(t)
	before := w.snapshot()
	for _, c := range []struct {
		fault string
		code  int
		want  string
	}{
		{"interfaces: [eth9]", 2, `no interface "eth9"`},
		{"hosts: [there.invalid]", 2, "there.invalid"},
		{`cidrs: ["2001:db8::/32"]`, 2, "IPv6"},
		{"to: {type: process, name: no-such-program}", 2, "to"},
		{"cidrs: [10.78.0.2]", 2, "10.78.0.2"},
		{"cidrs: [10.78.0.1], exclude: {cidrs: [10.78.0.0/24]}", 2, "exclude"},
	} {
		for _, fault := range []string{"type: latency, delay: 10ms, ", "type: partition, "} {
			o := w.simian("run", w.file(w.action(fault+c.fault, "1s")))
			if o.code != c.code || !strings.Contains(o.stderr, c.want) || strings.Count(strings.TrimSpace(o.stderr), "simian:") != 1 {
				t.Errorf("%s: exit %d, want %d and %q\n%s%s", c.fault, o.code, c.code, c.want, o.stdout, o.stderr)
			}
		}
	}
	w.same(before)
	s := newSleeper(t)
	for _, fault := range []string{"type: latency, delay: 10ms", "type: partition"} {
		o := w.simian("run", w.file(fmt.Sprintf("  - {fault: {%s}, target: {type: process, pid: %d}, for: 1s}\n", fault, s.pid)))
		if o.code == 0 || !strings.Contains(o.stderr, "allowHost") {
			t.Errorf("the host's own network: exit %d\n%s%s", o.code, o.stdout, o.stderr)
		}
	}
}

// TestQueueHelperKilled: packets flow, and the run says that the fault was not
// in force to its end.
func TestQueueHelperKilled(t *testing.T) {
	w := newWire(t)
	before := w.snapshot()
	p, run := w.start(experiment.EventInjected, "run", w.file(w.action("type: latency, delay: 50ms, backend: queue", "2s")))
	killed := false
	for _, dir := range cgroupsOf(run) {
		for _, field := range strings.Fields(read(t, filepath.Join(dir, "cgroup.procs"))) {
			pid, _ := strconv.Atoi(field)
			killed = unix.Kill(pid, unix.SIGKILL) == nil || killed
		}
	}
	if !killed {
		t.Fatal("there is no helper")
	}
	for until := time.Now().Add(5 * time.Second); ; {
		if took := w.roundTrip(); took >= 0 && took < 50*time.Millisecond {
			break
		}
		if time.Now().After(until) {
			t.Fatal("packets do not flow")
		}
	}
	<-p.done
	if code := p.cmd.ProcessState.ExitCode(); code != experiment.NotInjected.ExitCode() {
		t.Errorf("exit %d\n%s%s", code, p.out.String(), p.err.String())
	}
	w.same(before)
}

func cgroupsOf(run string) []string {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/simian-" + run + "*")
	more, _ := filepath.Glob("/sys/fs/cgroup/*/simian-" + run + "*")
	return append(dirs, more...)
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestTargetLeaves ends the target while the fault is on.
func TestTargetLeaves(t *testing.T) {
	for _, c := range networkFaults {
		t.Run(c.name, func(t *testing.T) {
			w := newWire(t)
			p, _ := w.start(experiment.EventInjected, "run", w.file(w.action(c.fault, "1s"), "  recovery: {within: 100ms}\n"))
			_ = w.target.Process.Kill()
			_ = w.target.Wait()
			<-p.done
			if code := p.cmd.ProcessState.ExitCode(); code == experiment.Residue.ExitCode() && !strings.Contains(p.out.String(), "running") || code == experiment.Errored.ExitCode() {
				t.Errorf("exit %d\n%s%s", code, p.out.String(), p.err.String())
			}
			if !strings.Contains(p.out.String(), "left while the fault was on") {
				t.Errorf("nothing is said of it\n%s%s", p.out.String(), p.err.String())
			}
			w.clean()
		})
	}
}

// TestInterfaceLater brings up a link while the fault is on.
func TestInterfaceLater(t *testing.T) {
	w := newWire(t)
	p, _ := w.start(experiment.EventInjected, "run", "-o", "json", w.file(w.action("type: latency, delay: 20ms", "1s")))
	w.in(w.target, func() error {
		err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "late0"}, PeerName: "late1"})
		if err != nil {
			return err
		}
		return raise("late0", "10.79.0.1/24")
	})
	w.roundTrip()
	<-p.done
	if out := p.out.String(); !strings.Contains(out, "late0 came up after the fault") {
		t.Errorf("nothing is said of it\n%s%s", out, p.err.String())
	}
}
