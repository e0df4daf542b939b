package op

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/simianhq/simian/internal/impair"
)

// prioOptions are a struct tc_prio_qopt: 2 bands, and all priorities that are
// not a class's own go to the first.
func prioOptions() []byte {
	return append(native.AppendUint32(nil, 2), make([]byte, 16)...)
}

func differsFromPrio(options []byte) string {
	want := prioOptions()
	if len(options) >= len(want) && slices.Equal(options[:len(want)], want) {
		return ""
	}
	return fmt.Sprintf("bands and priomap %x", options)
}

// Attributes of tbf (include/uapi/linux/pkt_sched.h).
const (
	tbfParms  = 1
	tbfRate64 = 4
	tbfBurst  = 6

	sizeofTbfQopt = 36
	linkEthernet  = 1 // TC_LINKLAYER_ETHERNET: no table of rates is asked for
)

// tbf is a token bucket: a rate, and bytes that may go at once. It has what
// netem's own rate has not.
type tbf struct {
	rate     uint64 // bytes per second
	burst    int    // bytes
	overhead uint16 // bytes for each packet
	limit    uint32 // bytes that wait
}

// tbfOf returns the tbf for c. Its queue holds what netem's limit allows.
func tbfOf(c impair.Config, limit int) tbf {
	return tbf{
		rate: uint64(math.Round(c.Rate / 8)), burst: c.Burst, overhead: uint16(c.Overhead),
		limit: uint32(min(limit*1514, math.MaxUint32)),
	}
}

// encode returns t as tbf_change of net/sched/sch_tbf.c reads it.
func (t tbf) encode() []byte {
	rate := []byte{0, linkEthernet}
	rate = native.AppendUint16(rate, t.overhead)
	rate = native.AppendUint32(rate, 0) // cell_align, mpu
	rate = native.AppendUint32(rate, uint32(min(t.rate, math.MaxUint32)))
	parms := append(rate, make([]byte, 12)...) // no peak rate
	parms = appendUint32s(parms, t.limit, t.ticks(), 0)
	b := appendAttr(nil, tbfParms, parms)
	if t.rate > math.MaxUint32 {
		b = appendAttr(b, tbfRate64, native.AppendUint64(nil, t.rate))
	}
	return appendUint32(b, tbfBurst, uint32(t.burst))
}

// ticks is how long the burst takes at the rate: the kernel keeps that
// (psched_l2t_ns).
func (t tbf) ticks() uint32 {
	seconds := float64(t.burst+int(t.overhead)) / float64(t.rate)
	return ticks(time.Duration(seconds * 1e9))
}

// decodeTbf reads what tbf_dump wrote. The burst is told in ticks.
func decodeTbf(options []byte) (t tbf, burst uint32, err error) {
	list, err := decodeAttrs(options)
	parms := attrOf(list, tbfParms)
	if err != nil || len(parms) != sizeofTbfQopt {
		return tbf{}, 0, fmt.Errorf("read tbf's parameters: %d bytes, %v", len(parms), err)
	}
	t = tbf{
		overhead: native.Uint16(parms[2:]), rate: uint64(native.Uint32(parms[8:])), limit: native.Uint32(parms[24:]),
	}
	if rate := attrOf(list, tbfRate64); len(rate) == 8 {
		t.rate = native.Uint64(rate)
	}
	return t, native.Uint32(parms[28:]), nil
}

// differs tells what tbf has, where that is not t. The kernel multiplies and
// shifts where it should divide: the last bits of a burst's time may be off.
func (t tbf) differs(options []byte) string {
	present, burst, err := decodeTbf(options)
	if err != nil {
		return err.Error()
	}
	want := t.ticks()
	present.burst = t.burst
	if off := int64(burst) - int64(want); present == t && max(off, -off) <= 1+int64(want>>20) {
		return ""
	}
	return fmt.Sprintf("rate %s, burst %s, overhead %d, limit %d bytes",
		bits(float64(present.rate)*8), time.Duration(burst)<<6, present.overhead, present.limit)
}

// The bounds of LimitPackets. The most is 1.1 GiB of packets of 1500 bytes:
// 10 Gbit/s for 0.6 s.
const (
	leastLimit  = 1000 // tc's own default
	mostLimit   = 500_000
	unknownRate = 10e9 // bits per second, of a link that has no speed
)

// LimitPackets returns how many packets netem must be able to hold for c: as
// many of 1500 bytes as come in the longest delay (distributions are cut off
// at 4 times the jitter) at the rate, or at the link's speed in bits per second
// (0 where it has none: 10 Gbit/s), but 1000 at least and 500,000 at most.
func LimitPackets(c impair.Config, linkSpeed float64) int {
	rate := linkSpeed
	if rate <= 0 {
		rate = unknownRate
	}
	if c.Rate > 0 {
		rate = min(rate, c.Rate)
	}
	longest := (c.Delay + 4*c.Jitter).Seconds()
	packets := math.Ceil(rate * longest / 8 / 1500)
	return int(min(max(packets, leastLimit), mostLimit))
}
