package op

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/proc"
)

// state lists links and qdiscs of near.
func (w *wire) state(t testing.TB) (list []string) {
	t.Helper()
	must(t, proc.Do(w.near.path(), func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			list = append(list, fmt.Sprint(l.Attrs().Index, l.Attrs().Name, l.Attrs().Flags&^net.FlagRunning, l.Attrs().MTU))
		}
		qdiscs, err := netlink.QdiscList(nil)
		for _, q := range qdiscs {
			list = append(list, q.Type()+q.Attrs().String())
		}
		fd, bad := openNft()
		if bad != nil {
			return bad
		}
		defer unix.Close(fd)
		tables, bad := findTables(fd, "")
		for _, t := range tables {
			list = append(list, t.String())
		}
		return errors.Join(err, bad)
	}))
	return list
}

func TestQueueLeavesNothing(t *testing.T) {
	w := newWire(t)
	before := w.state(t)
	q := w.apply(t, w.queue(w.match(filter.Both), delayed(5*time.Millisecond)))
	must(t, q.Apply(context.Background())) // twice is once
	if during := w.state(t); len(during) <= len(before) {
		t.Errorf("nothing was made: %q", during)
	}
	undo(t, q)
	if diff := cmp.Diff(before, w.state(t)); diff != "" {
		t.Error(diff)
	}
}

// stream sends a packet each millisecond from near to far, and notes when each
// was sent, and which arrived.
type stream struct {
	sent    []time.Time
	arrived []bool
}

func (w *wire) stream(t testing.TB, n int, at func(i int)) *stream {
	t.Helper()
	s := &stream{arrived: make([]bool, n)}
	sink := w.far.socket(t, unix.AF_INET, unix.SOCK_DGRAM, 0)
	must(t, unix.Bind(sink, &unix.SockaddrInet4{Port: 9002}))
	source := w.near.socket(t, unix.AF_INET, unix.SOCK_DGRAM, 0)
	must(t, unix.Connect(source, &unix.SockaddrInet4{Port: 9002, Addr: [4]byte(net.ParseIP(farIP).To4())}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 64); ; {
			n, _, err := unix.Recvfrom(sink, b, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil || n < 4 {
				return
			}
			s.arrived[binary.BigEndian.Uint32(b)] = true
		}
	}()
	for i := range n {
		_, err := unix.Write(source, binary.BigEndian.AppendUint32(nil, uint32(i)))
		must(t, err)
		s.sent = append(s.sent, time.Now())
		at(i)
		time.Sleep(time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
	_ = unix.Shutdown(sink, unix.SHUT_RDWR)
	<-done
	unix.Close(sink)
	unix.Close(source)
	return s
}

// gap is how long after when the first packet was sent from which on all
// arrived.
func (s *stream) gap(when time.Time) time.Duration {
	last := len(s.sent)
	for i := len(s.sent) - 1; i >= 0 && s.arrived[i]; i-- {
		last = i
	}
	if last == len(s.sent) {
		return time.Hour
	}
	return max(s.sent[last].Sub(when), 0)
}

func helperPID(t testing.TB, q *Queue) int {
	t.Helper()
	roots, _, err := cgroupRoots(q.host.FS)
	must(t, err)
	members, err := host.CgroupMembers(filepath.Join(roots[0], q.Cgroup()))
	must(t, err)
	if len(members) != 1 {
		t.Fatalf("%d processes in the helper's cgroup", len(members))
	}
	return members[0]
}

func TestQueueFailsOpen(t *testing.T) {
	for _, d := range []filter.Direction{filter.Egress, filter.Both} {
		t.Run(string(d), func(t *testing.T) {
			w := newWire(t)
			before := w.state(t)
			w.pinger(t, farIP).pings(t, 2, 0)
			q := w.apply(t, w.queue(w.match(d), delayed(20*time.Millisecond)))
			pid := helperPID(t, q)
			var killed time.Time
			s := w.stream(t, 300, func(i int) {
				if i == 150 {
					killed = time.Now()
					must(t, unix.Kill(pid, unix.SIGKILL))
				}
			})
			t.Logf("the first packet that passes was sent %s after the kill", s.gap(killed))
			if s.gap(killed) > time.Minute {
				t.Error("traffic does not flow again")
			}
			e := verify(t, q)
			if e.InForce || !strings.Contains(e.What, "killed") {
				t.Errorf("%+v", e)
			}
			if diff := cmp.Diff(before, w.state(t)); diff != "" {
				t.Error(diff)
			}
			undo(t, q)
		})
	}
}

// The runner is dead, or hangs, and its guardian takes back what it has read
// in the journal.
func TestQueueUndoneByAnother(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		t.Run(fmt.Sprintf("stopped %t", stopped), func(t *testing.T) {
			w := newWire(t)
			before := w.state(t)
			q := w.apply(t, w.queue(w.match(filter.Both), delayed(20*time.Millisecond)))
			if stopped {
				must(t, unix.Kill(helperPID(t, q), unix.SIGSTOP))
			}
			theirs := *q
			theirs.host = NewHost(proc.Host())
			undo(t, &theirs)
			if diff := cmp.Diff(before, w.state(t)); diff != "" {
				t.Error(diff)
			}
			_, err := w.pinger(t, farIP).ping()
			must(t, err)
			undo(t, q)
		})
	}
}

// Where its parent's end of the socket is closed, as when the parent dies, the
// helper ends.
func TestQueueEndsWithItsParent(t *testing.T) {
	w := newWire(t)
	before := w.state(t)
	q := w.apply(t, w.queue(w.match(filter.Both), delayed(20*time.Millisecond)))
	held := q.held()
	must(t, held.Close())
	select {
	case <-held.exited:
	case <-time.After(10 * time.Second):
		t.Fatal("the helper goes on")
	}
	if diff := cmp.Diff(before, w.state(t)); diff != "" {
		t.Error(diff)
	}
}

func TestQueueTargetGone(t *testing.T) {
	w := newWire(t)
	q := w.apply(t, w.queue(w.match(filter.Both), delayed(20*time.Millisecond)))
	held := q.held()
	w.near.end()
	select {
	case <-held.exited: // or its devices would keep the namespace
	case <-time.After(10 * time.Second):
		t.Fatal("the helper goes on")
	}
	must(t, q.Gone().Apply(context.Background())) // its cgroup is there still
	if err := q.Gone().Apply(context.Background()); !errors.Is(err, experiment.ErrGone) {
		t.Errorf("the undo says %v", err)
	}
	if err := q.Apply(context.Background()); !errors.Is(err, experiment.ErrGone) {
		t.Errorf("it is applied again with %v", err)
	}
}

// Somebody removes what the rules forward to.
func TestQueueDeviceRemoved(t *testing.T) {
	w := newWire(t)
	p := w.pinger(t, farIP)
	p.pings(t, 2, 0)
	q := w.apply(t, w.queue(w.match(filter.Both), delayed(20*time.Millisecond)))
	held := q.held()
	must(t, proc.Do(w.near.path(), func() error {
		link, err := netlink.LinkByName(q.lanes()[0].device)
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	}))
	select {
	case <-held.exited:
	case <-time.After(10 * time.Second):
		t.Fatal("the helper goes on")
	}
	p.pings(t, 1, 0)
}

// What waits when a queue is taken back arrives.
func TestQueueSendsWhatItHolds(t *testing.T) {
	w := newWire(t)
	w.pinger(t, farIP).pings(t, 2, 0)
	q := w.apply(t, w.queue(w.match(filter.Egress), delayed(time.Minute)))
	sink := w.far.socket(t, unix.AF_INET, unix.SOCK_DGRAM, 0)
	defer unix.Close(sink)
	must(t, unix.Bind(sink, &unix.SockaddrInet4{Port: 9009}))
	source := w.near.socket(t, unix.AF_INET, unix.SOCK_DGRAM, 0)
	defer unix.Close(source)
	const n = 100
	for i := range n {
		must(t, unix.Sendto(source, []byte{byte(i)}, 0, &unix.SockaddrInet4{Port: 9009, Addr: [4]byte(net.ParseIP(farIP).To4())}))
	}
	undo(t, q)
	b := make([]byte, 16)
	for i := range n {
		if _, _, err := unix.Recvfrom(sink, b, unix.MSG_DONTWAIT); err != nil || b[0] != byte(i) {
			t.Fatalf("packet %d: %d, %v", i, b[0], err)
		}
	}
}

func TestQueueAnotherLink(t *testing.T) {
	w := newWire(t)
	m := w.match(filter.Egress)
	m.Links[0].Index += 100
	q := w.queue(m, delayed(time.Millisecond))
	if err := q.Apply(context.Background()); !errors.Is(err, experiment.ErrGone) {
		t.Errorf("%v", err)
	}
	undo(t, q)
}
