package main

import (
	"context"
	"encoding/binary"
	"net/netip"
	"time"
)

// ranges returns n ranges that nobody here is in, none beside another, so that
// they can't be made one (RFC 6598's 100.64.0.0/10).
func ranges(n int) []netip.Prefix {
	list := make([]netip.Prefix, n)
	for i := range list {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 100<<24|64<<16+uint32(i)*8)
		list[i] = netip.PrefixFrom(netip.AddrFrom4(a), 30)
	}
	return list
}

// filterTasks measure what it costs a packet to pass a filter: with many ranges
// and with one or none, and for packets that are in the filter, by its last
// range, and for those that are not. Where they are, the delay is short, lest
// it hide what the filter costs.
func (b *bench) filterTasks(round int) []task {
	var tasks []task
	add := func(one backend, cidrs []netip.Prefix, match bool, delay time.Duration) {
		tasks = append(tasks, task{backend: one, fault: fault{delay: delay, cidrs: cidrs}, do: func(ctx context.Context, _ running) error {
			if !match {
				if _, err := b.ping(ctx, pings{to: otherAddr, n: 1, every: ms, wait: 500 * ms}); err != nil { // so that the filter matches something
					return err
				}
			}
			trips, err := b.ping(ctx, pings{to: farAddr, n: b.plan.passes, every: 5 * ms, wait: 500 * ms})
			if err == nil {
				b.results.Filters = append(b.results.Filters, Filter{one.name(), len(cidrs), match, millis(delay), round, trips})
			}
			return err
		}})
	}
	host := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, 32) }
	many := ranges(b.plan.cidrs - 1)
	add(baseline{}, nil, false, 0)
	for _, one := range b.having(netem, queue) {
		add(one, nil, true, ms)
		add(one, append(many[:len(many):len(many)], host(farAddr)), true, ms)
		add(one, []netip.Prefix{host(otherAddr)}, false, ms)
		add(one, append(many[:len(many):len(many)], host(otherAddr)), false, ms)
	}
	u32 := &tcNetem{b.lab, b.tools} // its filters work without netem as well
	add(u32, []netip.Prefix{host(otherAddr)}, false, 0)
	add(u32, append(many[:len(many):len(many)], host(otherAddr)), false, 0)
	return tasks
}
