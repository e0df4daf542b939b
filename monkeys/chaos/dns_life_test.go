package chaos

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
)

// keptSocket is a UDP socket that asks again and again, as those of some
// programs do.
type keptSocket struct {
	t testing.TB
	*net.UDPConn
}

func (n *node) keep() *keptSocket {
	n.t.Helper()
	var conn *net.UDPConn
	n.do(func() (err error) {
		conn, err = net.ListenUDP("udp4", nil)
		return err
	})
	n.t.Cleanup(func() { _ = conn.Close() })
	return &keptSocket{n.t, conn}
}

func (k *keptSocket) send(server, name string) uint16 {
	k.t.Helper()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	b, err := m.Pack()
	must(k.t, err)
	_, err = k.WriteToUDPAddrPort(b, netip.AddrPortFrom(netip.MustParseAddr(server), 53))
	must(k.t, err)
	return m.Id
}

// hear gives the next answer, and whose it is.
func (k *keptSocket) hear(within time.Duration) (from string, id uint16, words string) {
	k.t.Helper()
	_ = k.SetReadDeadline(time.Now().Add(within))
	b := make([]byte, 4096)
	size, at, err := k.ReadFromUDPAddrPort(b)
	if err != nil {
		return "", 0, said(nil, err)
	}
	var m dns.Msg
	must(k.t, m.Unpack(b[:size]))
	return at.Addr().Unmap().String(), m.Id, said(&m, nil)
}

func (k *keptSocket) ask(server, name string) string {
	k.t.Helper()
	id := k.send(server, name)
	from, back, words := k.hear(10 * time.Second)
	if words != "nothing" && (from != server || back != id) {
		k.t.Errorf("asked %s, answered by %s", server, from)
	}
	return words
}

// relayPID is the relay of this process's run.
func relayPID(t testing.TB, steps []experiment.Step) int {
	t.Helper()
	paths, _ := filepath.Glob("/sys/fs/cgroup/*/" + steps[0].Do.(*op.DNS).Cgroup() + "/cgroup.procs")
	more, _ := filepath.Glob("/sys/fs/cgroup/" + steps[0].Do.(*op.DNS).Cgroup() + "/cgroup.procs")
	for _, p := range append(paths, more...) {
		data, err := os.ReadFile(p)
		must(t, err)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			return pid
		}
	}
	t.Fatal("no relay is found")
	return 0
}

// TestDNSKept asks from one socket before, while and after: also where others
// have the kernel follow connections, and so keep what it knows of them.
func TestDNSKept(t *testing.T) {
	for _, followed := range []bool{false, true} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("followed=%t killed=%t", followed, killed), func(t *testing.T) {
				t.Parallel()
				l := newNet3DNS(t, op.NewHost(host))
				if followed {
					l.follow()
				}
				k := l.web.keep()
				if got := k.ask("10.83.0.1", "db"); got != "NOERROR 203.0.113.7" {
					t.Fatal(got)
				}
				for range 3 { // pulses
					steps := l.fail("how: nxdomain, names: [db]")
					ctx, stop := context.WithCancel(t.Context())
					ended := make(chan error, 1)
					go func() { ended <- steps[0].Do.(experiment.Follower).Follow(ctx) }()
					for range 3 {
						if got := k.ask("10.83.0.1", "db"); got != "NXDOMAIN" {
							t.Errorf("while it is in force: %s", got)
						}
						if got := k.ask("10.83.0.1", "cache"); got != "NOERROR 203.0.113.7" {
							t.Errorf("another name: %s", got)
						}
					}
					if killed {
						must(t, unix.Kill(relayPID(t, steps), unix.SIGKILL))
						must(t, <-ended)
					} else {
						stop()
						must(t, <-ended)
						takeBack(t, steps)
					}
					stop()
					if got := k.ask("10.83.0.1", "db"); got != "NOERROR 203.0.113.7" {
						t.Errorf("after it: %s", got)
					}
					if e, err := steps[0].Do.(experiment.Verifier).Verify(t.Context()); err != nil || e.InForce {
						t.Errorf("after it: %+v, %v", e, err)
					}
					takeBack(t, steps)
				}
			})
		}
	}
}

// follow has the kernel follow the target's connections: what others in
// its network do.
func (l *net3dns) follow() {
	l.t.Helper()
	l.web.do(func() error {
		c := &nftables.Conn{}
		table := c.AddTable(&nftables.Table{Name: "others", Family: nftables.TableFamilyINet})
		c.AddChain(&nftables.Chain{Name: "nat", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
		return c.Flush()
	})
}

// TestDNSFailsOpen kills the relay: lookups go to the resolver at once.
func TestDNSFailsOpen(t *testing.T) {
	l := newNet3DNS(t, op.NewHost(host))
	before := netSnapshot(l.web.Target)
	steps := l.fail("how: drop")
	if got := said(l.web.ask("udp", "10.83.0.1", "db", dns.TypeA, 200*time.Millisecond)); got != "nothing" {
		t.Errorf("in force: %s", got)
	}
	must(t, unix.Kill(relayPID(t, steps), unix.SIGKILL))
	killed := time.Now()
	for patience := 10 * time.Millisecond; said(l.web.ask("udp", "10.83.0.1", "db", dns.TypeA, patience)) != "NOERROR 203.0.113.7"; patience *= 2 {
		if time.Since(killed) > 5*time.Second {
			t.Fatal("lookups fail still")
		}
	}
	t.Logf("the resolver answers %s after the kill", time.Since(killed).Round(100*time.Microsecond))
	await(t, "the word that it was killed", func() bool {
		e, err := steps[0].Do.(experiment.Verifier).Verify(t.Context())
		if err != nil || e.InForce {
			t.Errorf("%+v, %v", e, err)
		}
		return strings.Contains(e.What, "the helper has ended: signal: killed")
	})
	heal(t, steps, l.web.Target, before)
}

// TestDNSTargetGone wants the relay to go with its target.
func TestDNSTargetGone(t *testing.T) {
	l := newNet3DNS(t, op.NewHost(host))
	steps := l.fail("how: drop")
	pid := relayPID(t, steps)
	l.web.end()
	await(t, "the relay's end", func() bool { return unix.Kill(pid, 0) != nil })
	takeBack(t, steps)
	if e, err := steps[0].Undo.(experiment.Verifier).Verify(t.Context()); err == nil && !e.InForce {
		t.Errorf("%+v", e)
	}
}

// TestDNSTwoServers asks two servers from one socket at the same time, as musl
// does: each answer comes from the one that was asked.
func TestDNSTwoServers(t *testing.T) {
	l := newNet3DNS(t, op.NewHost(host))
	l.cache.resolve(l.near, "10.84.0.1")
	l.fail("how: nxdomain, names: [db]")
	k := l.web.keep()
	for _, name := range []string{"db", "cache"} {
		want := map[uint16]string{}
		for _, server := range []string{"10.83.0.1", "10.84.0.1"} {
			want[k.send(server, name)] = server
		}
		for range want {
			from, id, words := k.hear(10 * time.Second)
			t.Log(name, from, words)
			if from != want[id] {
				t.Errorf("%s: %s says %s, %s was asked", name, from, words, want[id])
			}
		}
	}
	if seen := l.far.seen(); len(seen) != 1 || seen[0] != "udp 10.83.0.2 cache. A" {
		t.Errorf("one was asked for %q", seen)
	}
	if seen := l.near.seen(); len(seen) != 1 || seen[0] != "udp 10.84.0.2 cache. A" {
		t.Errorf("the other was asked for %q", seen)
	}
}

// TestDNSStanding leaves a TCP connection alone that stood before.
func TestDNSStanding(t *testing.T) {
	for _, followed := range []bool{false, true} {
		l := newNet3DNS(t, op.NewHost(host))
		if followed {
			l.follow()
		}
		var raw net.Conn
		l.web.do(func() (err error) {
			raw, err = net.Dial("tcp", "10.83.0.1:53")
			return err
		})
		defer raw.Close()
		conn := &dns.Conn{Conn: raw}
		ask := func() string {
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			must(t, conn.WriteMsg(new(dns.Msg).SetQuestion("db.", dns.TypeA)))
			return said(conn.ReadMsg())
		}
		if got := ask(); got != "NOERROR 203.0.113.7" {
			t.Error(got)
		}
		steps := l.fail("how: nxdomain")
		if got := ask(); got != "NOERROR 203.0.113.7" {
			t.Errorf("while it is in force: %s", got)
		}
		takeBack(t, steps)
		if got := ask(); got != "NOERROR 203.0.113.7" {
			t.Errorf("afterwards: %s", got)
		}
	}
}

// TestDNSTruncated asks by TCP where the answer does not fit, all through the
// relay; and what is held is let go when the fault is taken back.
func TestDNSTruncated(t *testing.T) {
	l := newNet3DNS(t, op.NewHost(host))
	steps := l.fail("how: slow, delay: 1m, names: [late]")
	reply, err := l.web.ask("udp", "10.83.0.1", "big", dns.TypeTXT, 10*time.Second)
	if err != nil || !reply.Truncated {
		t.Errorf("%v, %v", reply, err)
	}
	reply, err = l.web.ask("tcp", "10.83.0.1", "big", dns.TypeTXT, 10*time.Second)
	if err != nil || len(reply.Answer) != 1 || reply.Len() < 750 {
		t.Errorf("%v, %v", reply, err)
	}
	answered := make(chan string, 2)
	for _, network := range []string{"udp", "tcp"} {
		go func() { answered <- said(l.web.ask(network, "10.83.0.1", "late", dns.TypeA, 20*time.Second)) }()
	}
	var e experiment.Evidence
	await(t, "lookups that wait", func() bool {
		e, err = steps[0].Do.(experiment.Verifier).Verify(t.Context())
		return err == nil && strings.Contains(e.What, "2 delayed by 1m0s")
	})
	began := time.Now()
	takeBack(t, steps)
	took := time.Since(began)
	t.Logf("taken back in %s", took)
	for range 2 { // a processor that has no time for it lets what is under way go without
		if got := <-answered; got != "NOERROR 203.0.113.7" && took < 100*time.Millisecond {
			t.Errorf("what was held is answered %s; %+v", got, e)
		}
	}
}

// TestDNSFelt tells what was asked for where nothing matched.
func TestDNSFelt(t *testing.T) {
	l := newNet3DNS(t, op.NewHost(host))
	steps := l.fail("how: drop, names: [db]")
	hold := func(felt experiment.Felt, words string) {
		t.Helper()
		e, err := steps[0].Do.(experiment.Verifier).Verify(t.Context())
		if err != nil || e.Felt != felt || !strings.Contains(e.What+" "+e.Hint, words) {
			t.Errorf("%+v, %v", e, err)
		}
	}
	hold(experiment.FeltNothing, "asked no resolver on port 53")
	for range 3 {
		_, _ = l.web.ask("udp", "10.83.0.1", "db.shop.internal", dns.TypeA, 10*time.Second)
	}
	_, _ = l.web.ask("udp", "10.83.0.1", "cache", dns.TypeA, 10*time.Second)
	hold(experiment.FeltNothing, "nothing matched: it asked for db.shop.internal (3), cache (1)")
	_, _ = l.web.ask("udp", "10.83.0.1", "db", dns.TypeA, 50*time.Millisecond)
	await(t, "the lookup", func() bool {
		e, err := steps[0].Do.(experiment.Verifier).Verify(t.Context())
		return err == nil && e.Felt == experiment.FeltYes
	})
	hold(experiment.FeltYes, "5 lookups: 1 matched, 1 dropped; 4 passed on, 4 of them answered")
}

// TestDNSMeasured measures lookups of its own, which do not count.
func TestDNSMeasured(t *testing.T) {
	l := newNet3DNS(t, op.NewHost(host))
	l.web.Root = resolvesBy(t, "nameserver 10.83.0.1\n", "")
	d, err := readDNS(l.host, "how: address, addresses: ['2001:db8::bad'], names: ['*.example.org']")
	must(t, err)
	steps, err := d.Plan(t.Context(), "abcd23", l.web.Target)
	must(t, err)
	t.Cleanup(func() { takeBack(t, steps) })
	m, err := d.Measure(t.Context(), l.web.Target, experiment.PhaseBefore)
	if err != nil || m.Sent == 0 || m.Lost > 0 || !strings.Contains(m.What, "lookup of simian-check.example.org (AAAA) at 10.83.0.1, answered NOERROR 2001:db8::7") {
		t.Errorf("%+v, %v", m, err)
	}
	must(t, steps[0].Do.Apply(t.Context()))
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
	defer stop()
	m, err = d.Measure(ctx, l.web.Target, experiment.PhaseDuring)
	t.Logf("%+v", m)
	if err != nil || m.Sent == 0 || m.Lost > 0 || !strings.Contains(m.What, "answered NOERROR 2001:db8::bad") || len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "other names are answered still") {
		t.Errorf("%+v, %v", m, err)
	}
	e, err := steps[0].Do.(experiment.Verifier).Verify(t.Context())
	if err != nil || e.Felt != experiment.FeltNothing {
		t.Errorf("%+v, %v", e, err)
	}
}
