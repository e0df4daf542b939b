package op

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/impair"
)

func TestQueueDelays(t *testing.T) {
	for _, address := range []string{farIP, farIP6} {
		for _, c := range []struct {
			d     filter.Direction
			times time.Duration
		}{{filter.Egress, 1}, {filter.Ingress, 1}, {filter.Both, 2}} {
			t.Run(fmt.Sprintf("%s %s", c.d, address), func(t *testing.T) {
				w := newWire(t)
				p := w.pinger(t, address)
				p.pings(t, 3, 0)
				base := p.pings(t, 20, 0)
				const delay = 20 * time.Millisecond
				before := time.Now()
				q := w.apply(t, w.queue(w.match(c.d), delayed(delay)))
				t.Logf("in force after %s", time.Since(before))
				list := p.pings(t, 40, 0)
				t.Logf("without %s, with %s to %s, mean %s", mean(base), list[0], list[len(list)-1], mean(list))
				if list[0] < c.times*delay || list[0] > c.times*delay+50*time.Millisecond {
					t.Errorf("a round trip of %s at best", list[0])
				}
				e := verify(t, q)
				if !e.InForce || e.Felt != experiment.FeltYes || e.Hint != "" {
					t.Errorf("%+v", e)
				}
				t.Log(e.What)
				undo(t, q)
				if after := p.pings(t, 20, 0); after[0] > delay {
					t.Errorf("a round trip of %s when it is over", after[0])
				}
			})
		}
	}
}

func verify(t testing.TB, q *Queue) experiment.Evidence {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	e, err := q.Verify(ctx)
	must(t, err)
	return e
}

// undo ends q twice, and sees that nothing is left.
func undo(t testing.TB, q *Queue) {
	t.Helper()
	for range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		must(t, q.Gone().Apply(ctx))
		cancel()
	}
	if e := verify(t, q.Gone()); !e.InForce {
		t.Errorf("after the undo: %+v", e)
	}
}

func TestQueueData(t *testing.T) {
	q := NewQueue(NewHost(host), experiment.Namespace{Inode: 4026533210, Cookie: 7}, "abcd23", 0,
		filter.Match{Links: []filter.Link{{Name: "eth0", Index: 2}}, Egress: true},
		impair.Config{Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond}, 64<<20, 1)
	for _, c := range []struct{ got, want string }{
		{q.String(), "start helper queue in netns 4026533210 for eth0 egress: delay 20ms ±5ms uniform (cgroup simian-abcd23-4026533210-q0)"},
		{q.Gone().String(), "end helper queue in netns 4026533210 for eth0 (cgroup simian-abcd23-4026533210-q0)"},
		{strings.Join(q.Handles(), " "), "net:4026533210:7:eth0:queue"},
		{q.lanes()[0].device, "smabcd23q0-0"},
		{q.Table(), "simian_abcd23_q0"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
