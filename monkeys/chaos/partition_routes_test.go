package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/op"
)

// toldBy is what connect(2) tells by each type of route.
var toldBy = map[string]unix.Errno{op.RouteBlackhole: unix.EINVAL, op.RouteUnreachable: unix.EHOSTUNREACH, op.RouteProhibit: unix.EACCES}

var routeForms = []struct{ name, fields string }{
	{"blackhole", "how: blackhole, cidrs: [10.83.0.0/16, 'fd83::/32', 192.0.2.7]"}, // wider than the link's own
	{"unreachable", "how: unreachable, cidrs: [10.83.0.0/24, 'fd83::/64']"},        // as the link's own
	{"prohibit", "how: prohibit, to: {type: peer}"},                                // within the link's own
	{"everywhere", "how: blackhole, cidrs: [0.0.0.0/0, '::/0']"},
}

func TestRoutesConformance(t *testing.T) {
	for _, form := range routeForms {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			h := op.NewHost(host)
			var peers []experiment.Target
			fault, err := readPartition(h, &peers, form.fields)
			must(t, err)
			var l *net3
			experimenttest.Fault(t, experimenttest.FaultCase{
				Fault: fault, Ops: h.Ops(), Snapshot: netSnapshot,
				Target: func(t testing.TB) experiment.Target {
					l = newNet3For(t, h)
					peers = l.peers
					return l.web.Target
				},
				Gone: func(testing.TB, experiment.Target) { l.web.end(); l.db.end(); l.cache.end() },
			})
		})
	}
}

func TestRoutesGolden(t *testing.T) {
	l := newNet3(t)
	before := netSnapshot(l.web.Target)
	ns, err := host.NetworkOf(l.web.Target)
	must(t, err)
	numbers := strings.NewReplacer(ns.Handle(), "net:4026533210:7")
	for _, form := range routeForms {
		steps, err := l.partition(form.fields).Plan(t.Context(), "abcd23", l.web.Target)
		must(t, err)
		golden(t, "routes-"+form.name, numbers.Replace(describe(steps)))
	}
	if after := netSnapshot(l.web.Target); after != before {
		t.Errorf("planned, and changed: %s", after)
	}
}

// TestRoutes cuts a target off from one neighbour: it is told as the type
// says, connections that stand are cut, the other neighbour is not, and all is
// as before when another process takes it back.
func TestRoutes(t *testing.T) {
	for _, form := range routeForms[:3] {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			l := newNet3(t)
			before := netSnapshot(l.web.Target)
			var stand []net.Conn
			for _, at := range []string{"10.83.0.1", "fd83::1"} {
				conn, err := l.web.dial("tcp", at, 20*time.Second)
				must(t, err)
				defer conn.Close()
				must(t, converse(conn, 20*time.Second))
				stand = append(stand, conn)
			}
			steps := l.strike(form.fields, l.web.Target)
			for i, at := range []string{"10.83.0.1", "fd83::1"} {
				for _, kind := range []string{"udp", "tcp"} {
					if err := l.web.talk(kind, at, 300*time.Millisecond); !errors.Is(err, toldBy[form.name]) {
						t.Errorf("%s %s: %v, want %v", kind, at, err, toldBy[form.name])
					}
				}
				if err := converse(stand[i], 300*time.Millisecond); err == nil {
					t.Errorf("%s: the connection that stood goes on", at)
				}
				if l.db.talk("tcp", []string{"10.83.0.2", "fd83::2"}[i], 300*time.Millisecond) == nil {
					t.Errorf("%s is answered", at)
				}
			}
			if err := errors.Join(l.web.talk("tcp", "10.84.0.1", 20*time.Second), l.web.talk("udp", "fd84::1", 20*time.Second)); err != nil {
				t.Errorf("the other neighbour: %v", err)
			}
			e, err := steps[0].Do.(experiment.Verifier).Verify(t.Context())
			want := fmt.Sprintf("connect to 10.83.0.1: %s; connect to fd83::1: %s", toldBy[form.name], toldBy[form.name])
			if err != nil || !e.InForce || !strings.HasSuffix(e.What, want) && form.name == "prohibit" {
				t.Errorf("%+v, %v", e, err)
			}
			t.Log(e.What)
			heal(t, elsewhere(t, steps), l.web.Target, before)
			if err := errors.Join(l.web.talk("tcp", "10.83.0.1", 20*time.Second), l.web.talk("udp", "fd83::1", 20*time.Second), converse(stand[0], 20*time.Second)); err != nil {
				t.Errorf("when it is over: %v", err)
			}
		})
	}
}

// elsewhere is steps as a process that did not make them reads them from the
// journal.
func elsewhere(t testing.TB, steps []experiment.Step) []experiment.Step {
	t.Helper()
	codec := experiment.Codec{Ops: op.NewHost(host).Ops()}
	e := experiment.Event{Kind: experiment.EventAnnounce}
	for i, s := range steps {
		e.Steps = append(e.Steps, experiment.PlannedStep{N: i + 1, Target: "t", Step: s})
	}
	line, err := codec.Marshal(&e)
	must(t, err)
	var again experiment.Event
	must(t, codec.Decoder()(json.RawMessage(line), &again))
	read := make([]experiment.Step, len(again.Steps))
	for i, s := range again.Steps {
		read[i] = s.Step
	}
	return read
}

// TestRoutesBeside has routes with the same prefixes there already, with the
// metrics that come first: they are not touched.
func TestRoutesBeside(t *testing.T) {
	l := newNet3(t)
	l.web.do(func() error {
		for _, at := range [][2]string{{"198.51.100.0/24", "10.84.0.1"}, {"2001:db8:7::/48", "fd84::1"}} {
			_, to, err := net.ParseCIDR(at[0])
			if err != nil {
				return err
			}
			for _, metric := range []int{2, 0, 700} {
				if err := netlink.RouteAdd(&netlink.Route{Dst: to, Gw: net.ParseIP(at[1]), Priority: metric}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	before := netSnapshot(l.web.Target)
	steps := l.strike("how: prohibit, cidrs: [198.51.100.0/24, '2001:db8::/32']", l.web.Target)
	for _, at := range []string{"198.51.100.9", "2001:db8:7::9"} {
		if err := l.web.talk("udp", at, 300*time.Millisecond); !errors.Is(err, unix.EACCES) {
			t.Errorf("%s: %v", at, err)
		}
	}
	for _, line := range strings.Split(before, "\n") {
		if strings.HasPrefix(line, "route ") && !strings.Contains(netSnapshot(l.web.Target), line) {
			t.Errorf("gone: %s", line)
		}
	}
	heal(t, steps, l.web.Target, before)
}

// TestRoutesReplaced has somebody replace a route of the run's: it is no
// longer in force, and theirs stays.
func TestRoutesReplaced(t *testing.T) {
	l := newNet3(t)
	steps := l.strike("how: blackhole, cidrs: [198.51.100.0/24, 192.0.2.0/24]", l.web.Target)
	l.web.do(func() error {
		_, to, err := net.ParseCIDR("198.51.100.0/24")
		if err != nil {
			return err
		}
		return netlink.RouteReplace(&netlink.Route{Dst: to, Gw: net.ParseIP("10.84.0.1")})
	})
	e, err := steps[0].Do.(experiment.Verifier).Verify(t.Context())
	if err != nil || e.InForce || e.What != "no blackhole route to 198.51.100.0/24" {
		t.Errorf("%+v, %v", e, err)
	}
	takeBack(t, steps)
	if after := netSnapshot(l.web.Target); !strings.Contains(after, "route 198.51.100.0/24") || strings.Contains(after, "route 192.0.2.0/24") {
		t.Errorf("theirs is gone, or ours is not:\n%s", after)
	}
}

func TestRoutesBusy(t *testing.T) {
	l := newNet3(t)
	l.web.do(func() error {
		_, to, err := net.ParseCIDR("2001:db8:7::/48")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Dst: to, Gw: net.ParseIP("fd84::1"), Priority: 1})
	})
	_, err := l.partition("how: prohibit, cidrs: ['2001:db8::/32']").Plan(t.Context(), "abcd23", l.web.Target)
	if !errors.Is(err, experiment.ErrBusy) || !strings.Contains(err.Error(), "the route to 2001:db8:7::/48 has metric 1, which none can come before") {
		t.Error(err)
	}
	l.strike("how: prohibit, cidrs: [10.83.0.1]", l.web.Target)
	_, err = l.partition("how: prohibit, cidrs: [192.0.2.0/24]").Plan(t.Context(), "abcd24", l.web.Target)
	if !errors.Is(err, experiment.ErrBusy) || !strings.Contains(err.Error(), "there is a route of another run's to 10.83.0.1/32 already (prohibit, protocol 213)") {
		t.Error(err)
	}
	_, err = l.partition("how: blackhole, cidrs: [10.83.0.1]").Plan(t.Context(), "abcd24", l.web.Target)
	must(t, err) // of another type, they can be told apart
}

func TestRoutesRefused(t *testing.T) {
	t.Parallel()
	knows := func(field string) string { return "a route knows only where packets go to: leave " + field + " out" }
	for fields, want := range map[string]string{
		"how: blackhole, cidrs: [10.1.0.0/16]":                    "",
		"how: prohibit, hosts: [db]":                              "",
		"how: blackhole":                                          "blackhole is a route, which leads somewhere: say where by cidrs",
		"how: blackhole, cidrs: [10.1.0.0/8]":                     "say 10.0.0.0/8",
		"how: blackhole, cidrs: [10.0.0.0/8], ports: 80":          knows("ports"),
		"how: blackhole, cidrs: [10.0.0.0/8], direction: egress":  knows("direction"),
		"how: prohibit, cidrs: [10.0.0.0/8], protocol: tcp":       knows("protocol"),
		"how: prohibit, cidrs: [10.0.0.0/8], percent: 10":         knows("percent"),
		"how: prohibit, cidrs: [10.0.0.0/8], interfaces: [e0]":    knows("interfaces"),
		"how: prohibit, cidrs: [10.0.0.0/8], sourcePorts: 1":      knows("sourcePorts"),
		"how: prohibit, cidrs: [10.0.0.0/8], exclude: {ports: 1}": knows("exclude"),
		"how: prohibit, cidrs: [10.0.0.0/8], allowHost: true":     knows("allowHost"),
		"how: throw, cidrs: [10.0.0.0/8]":                         "words: drop reject reset blackhole unreachable prohibit",
	} {
		_, err := readPartition(op.NewHost(host), new([]experiment.Target), fields)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", fields, err, want)
		}
	}
	self, err := host.Target(os.Getpid())
	must(t, err)
	p, err := readPartition(op.NewHost(host), new([]experiment.Target), "how: blackhole, cidrs: [192.0.2.0/24]")
	must(t, err)
	if _, err := p.Plan(t.Context(), "abcd23", self); !errors.Is(err, experiment.ErrProtected) || !strings.Contains(err.Error(), "the host's own, whose routes are left alone") {
		t.Errorf("the host's own network: %v", err)
	}
}
