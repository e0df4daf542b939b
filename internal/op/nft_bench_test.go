package op

import (
	"fmt"
	"net"
	"testing"

	"github.com/simianhq/simian/internal/filter"
)

// BenchmarkNftRoundTrip is a datagram from the target to the peer and back,
// with filters in both directions that it does not match: the longest way
// through the rules.
func BenchmarkNftRoundTrip(b *testing.B) {
	for _, ranges := range []int{0, 1, 10_000} {
		b.Run(fmt.Sprint(ranges), func(b *testing.B) {
			l := newNftLab(b)
			if ranges > 0 {
				m := filter.Match{Egress: true, Ingress: true, Criteria: filter.Criteria{Far: many(ranges)}}
				table := l.table(m, TableAct{Kind: ActDrop})
				must(b, table.Apply(b.Context()))
				defer func() { must(b, table.Gone().Apply(b.Context())) }()
			}
			from, to := l.udp(l.target, net.JoinHostPort(targetIP4, "0")), l.udp(l.peer, net.JoinHostPort(peerIP4, "0"))
			go func() {
				buf := make([]byte, 64)
				for {
					n, back, err := to.ReadFromUDPAddrPort(buf)
					if err != nil {
						return
					}
					_, _ = to.WriteToUDPAddrPort(buf[:n], back)
				}
			}()
			buf, end := make([]byte, 64), to.LocalAddr().(*net.UDPAddr).AddrPort()
			for b.Loop() {
				_, err := from.WriteToUDPAddrPort(buf[:32], end)
				must(b, err)
				_, _, err = from.ReadFromUDPAddrPort(buf)
				must(b, err)
			}
		})
	}
}

// BenchmarkNftApply makes a table and takes it back.
func BenchmarkNftApply(b *testing.B) {
	for _, ranges := range []int{1, 10_000} {
		b.Run(fmt.Sprint(ranges), func(b *testing.B) {
			l := newNftLab(b)
			table := l.table(filter.Match{Egress: true, Ingress: true, Criteria: filter.Criteria{Far: many(ranges)}}, TableAct{Kind: ActDrop})
			for b.Loop() {
				must(b, table.Apply(b.Context()))
				b.StopTimer()
				must(b, table.Gone().Apply(b.Context()))
				b.StartTimer()
			}
		})
	}
}

// BenchmarkNftCheck asks the kernel before a plan is made.
func BenchmarkNftCheck(b *testing.B) {
	table := Table{Name: "simian_test_1", Match: rich(), Act: TableAct{Kind: ActDrop, Percent: 1}}
	table.Match.Links = []filter.Link{{Name: "eth0", Index: 2}}
	for b.Loop() {
		must(b, CheckNft(&table))
	}
}
