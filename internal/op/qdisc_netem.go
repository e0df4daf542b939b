package op

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/impair"
)

// Attributes of netem (include/uapi/linux/pkt_sched.h).
const (
	netemCorr      = 1
	netemDelayDist = 2
	netemReorder   = 3
	netemCorrupt   = 4
	netemLoss      = 5
	netemRate      = 6
	netemRate64    = 8
	netemLatency64 = 10
	netemJitter64  = 11
	netemSlot      = 12

	lossStates  = 1 // NETEM_LOSS_GI
	lossGilbert = 2 // NETEM_LOSS_GE

	sizeofNetemQopt = 24
	nested          = 1 << 15 // NLA_F_NESTED
)

// netem is a netem qdisc's parameters as the kernel keeps them, but for the
// table of its distribution, which the kernel does not give back.
type netem struct {
	latency, jitter              time.Duration
	limit                        uint32 // packets
	loss, duplicate              uint32 // probabilities: 2³²-1 is always
	delayCorr, lossCorr, dupCorr uint32
	gap                          uint32
	reorder, reorderCorr         uint32
	corrupt, corruptCorr         uint32
	rate                         uint64 // bytes per second
	overhead                     int32  // bytes
	cell, cellOverhead           uint32
	model                        uint16 // of loss: 0, lossStates or lossGilbert
	chain                        [5]uint32
}

// netemOf returns what does c. A loss with a correlation is the Gilbert–Elliott
// model that is the same, as netem's own correlation changes the share.
func netemOf(c impair.Config, limit int) netem {
	n := netem{
		latency: c.Delay, jitter: c.Jitter, limit: uint32(limit),
		loss: probability(c.Loss.Percent),
	}
	n.duplicate, n.dupCorr = chanceOf(c.Duplicate)
	n.corrupt, n.corruptCorr = chanceOf(c.Corrupt)
	if c.Reorder.Percent > 0 {
		n.gap = uint32(max(c.Gap, 1))
		n.reorder, n.reorderCorr = chanceOf(c.Reorder)
	}
	if c.Burst == 0 { // otherwise tbf does it
		n.rate, n.overhead = uint64(math.Round(c.Rate/8)), int32(c.Overhead)
	}
	n.setLoss(c.Loss)
	return n
}

func (n *netem) setLoss(l impair.Loss) {
	switch {
	case l.States != nil:
		s := l.States
		n.model, n.loss = lossStates, 0
		n.chain = [5]uint32{probability(s.P13), probability(s.P31), probability(s.P32), probability(s.P14), probability(s.P23)}
	case l.Gilbert != nil || l.Correlation > 0 && l.Percent > 0:
		g := l.Chance.Gilbert()
		if l.Gilbert != nil {
			g = *l.Gilbert
		}
		n.model, n.loss = lossGilbert, 0 // the kernel's h is what is not lost in the bad state
		n.chain = [5]uint32{probability(g.P), probability(g.R), probability(100 - g.Bad), probability(g.Good)}
	}
}

// probability is percent as netem has it.
func probability(percent float64) uint32 {
	return uint32(math.Round(min(max(percent, 0), 100) / 100 * math.MaxUint32))
}

// tableOf returns the table that c's distribution needs, nil for none.
func tableOf(c impair.Config) []int16 {
	if c.Jitter == 0 {
		return nil
	}
	return impair.Table(c.Distribution)
}

// encode returns n as netem_change of net/sched/sch_netem.c reads it.
func (n netem) encode(table []int16) []byte {
	b := appendUint32s(nil, ticks(n.latency), n.limit, n.loss, n.gap, n.duplicate, ticks(n.jitter))
	b = appendAttr(b, netemLatency64, native.AppendUint64(nil, uint64(n.latency)))
	b = appendAttr(b, netemJitter64, native.AppendUint64(nil, uint64(n.jitter)))
	b = appendAttr(b, netemCorr, appendUint32s(nil, n.delayCorr, n.lossCorr, n.dupCorr))
	b = appendAttr(b, netemReorder, appendUint32s(nil, n.reorder, n.reorderCorr))
	b = appendAttr(b, netemCorrupt, appendUint32s(nil, n.corrupt, n.corruptCorr))
	if n.rate > 0 {
		if n.rate > math.MaxUint32 {
			b = appendAttr(b, netemRate64, native.AppendUint64(nil, n.rate))
		}
		b = appendAttr(b, netemRate, appendUint32s(nil, uint32(min(n.rate, math.MaxUint32)), uint32(n.overhead), n.cell, n.cellOverhead))
	}
	if n.model != 0 {
		size := map[uint16]int{lossStates: 5, lossGilbert: 4}[n.model]
		b = appendAttr(b, netemLoss|nested, appendAttr(nil, n.model, appendUint32s(nil, n.chain[:size]...)))
	}
	if table != nil {
		var entries []byte
		for _, v := range table {
			entries = native.AppendUint16(entries, uint16(v))
		}
		b = appendAttr(b, netemDelayDist, entries)
	}
	return b
}

func appendUint32s(b []byte, list ...uint32) []byte {
	for _, v := range list {
		b = native.AppendUint32(b, v)
	}
	return b
}

// ticks is a time in the clock of traffic control, 64 ns each (PSCHED_SHIFT).
// The kernel takes the 64-bit attributes instead, since Linux 4.15.
func ticks(d time.Duration) uint32 { return uint32(min(d>>6, math.MaxUint32)) }

// decodeNetem reads what netem_dump wrote.
func decodeNetem(options []byte) (netem, error) {
	if len(options) < sizeofNetemQopt {
		return netem{}, fmt.Errorf("read netem's parameters: %d bytes", len(options))
	}
	q := words(options[:sizeofNetemQopt])
	n := netem{
		latency: time.Duration(q[0]) << 6, limit: q[1], loss: q[2], gap: q[3], duplicate: q[4],
		jitter: time.Duration(q[5]) << 6,
	}
	list, err := decodeAttrs(options[sizeofNetemQopt:])
	for _, a := range list {
		n.decodeAttr(a)
	}
	return n, err
}

func (n *netem) decodeAttr(a tcAttr) {
	w := words(a.Data)
	switch {
	case a.Type == netemLatency64 && len(w) == 2:
		n.latency = time.Duration(native.Uint64(a.Data))
	case a.Type == netemJitter64 && len(w) == 2:
		n.jitter = time.Duration(native.Uint64(a.Data))
	case a.Type == netemCorr && len(w) == 3:
		n.delayCorr, n.lossCorr, n.dupCorr = w[0], w[1], w[2]
	case a.Type == netemReorder && len(w) == 2:
		n.reorder, n.reorderCorr = w[0], w[1]
	case a.Type == netemCorrupt && len(w) == 2:
		n.corrupt, n.corruptCorr = w[0], w[1]
	case a.Type == netemRate && len(w) == 4:
		n.rate = max(n.rate, uint64(w[0]))
		n.overhead, n.cell, n.cellOverhead = int32(w[1]), w[2], w[3]
	case a.Type == netemRate64 && len(w) == 2:
		n.rate = native.Uint64(a.Data)
	case a.Type == netemLoss:
		n.decodeLoss(a.Data)
	}
}

func (n *netem) decodeLoss(data []byte) {
	list, err := decodeAttrs(data)
	if err == nil && len(list) == 1 {
		n.model = list[0].Type
		copy(n.chain[:], words(list[0].Data))
	}
}

// words reads 32-bit numbers.
func words(b []byte) []uint32 {
	list := make([]uint32, len(b)/4)
	for i := range list {
		list[i] = native.Uint32(b[4*i:])
	}
	return list
}

// differs tells what netem has, where that is not n.
func (n netem) differs(options []byte) string {
	present, err := decodeNetem(options)
	switch {
	case err != nil:
		return err.Error()
	case present == n:
		return ""
	}
	return present.String()
}

// String gives "delay 20ms, jitter 5ms, loss 1 %, limit 1000".
func (n netem) String() string {
	var s []string
	add := func(is bool, format string, args ...any) {
		if is {
			s = append(s, fmt.Sprintf(format, args...))
		}
	}
	add(n.latency != 0, "delay %s", n.latency)
	add(n.jitter != 0, "jitter %s%s", n.jitter, correlation(n.delayCorr))
	add(n.loss != 0, "loss %s%s", percent(n.loss), correlation(n.lossCorr))
	add(n.model == lossStates, "loss by 4 states (%s)", percents(n.chain[:5]))
	add(n.model == lossGilbert, "loss by Gilbert–Elliott (%s)", percents(n.chain[:4]))
	add(n.duplicate != 0, "duplicate %s%s", percent(n.duplicate), correlation(n.dupCorr))
	add(n.corrupt != 0, "corrupt %s%s", percent(n.corrupt), correlation(n.corruptCorr))
	add(n.gap != 0, "reorder %s%s gap %d", percent(n.reorder), correlation(n.reorderCorr), n.gap)
	add(n.rate != 0, "rate %s", bits(float64(n.rate)*8))
	add(n.overhead != 0, "overhead %d", n.overhead)
	add(true, "limit %d", n.limit)
	return strings.Join(s, ", ")
}

func percent(p uint32) string { return fmt.Sprintf("%.4g %%", float64(p)/math.MaxUint32*100) }

func percents(list []uint32) string {
	s := make([]string, len(list))
	for i, p := range list {
		s[i] = percent(p)
	}
	return strings.Join(s, ", ")
}

func correlation(p uint32) string {
	if p == 0 {
		return ""
	}
	return " (" + percent(p) + " correlated)"
}

// bits writes a rate in bits per second as tc(8) does.
func bits(rate float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "gbit"}, {1e6, "mbit"}, {1e3, "kbit"}} {
		if rate >= unit.size {
			return fmt.Sprintf("%.6g%s", rate/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%.6gbit", rate)
}

// longestBurst is 2³² ticks of 64 ns, or a little less.
const longestBurst = 270 * time.Second

// CheckNetem gives ErrUnsupported, and says why, where netem cannot do c. It
// takes a correlation of delays, but draws from a table, and between two
// bounds, by the remainder of a random number (tabledist of sch_netem.c), in
// which nothing of a correlation is left unless the jitter is seconds.
func CheckNetem(c impair.Config) error {
	var why string
	switch {
	case c.Jitter > 0 && c.Correlation > 0:
		why = "a correlation of delays: it takes one, and its delays are not correlated"
	case c.Jitter > math.MaxInt32:
		why = fmt.Sprintf("a jitter of %s: 2.147s is the most", c.Jitter) // tabledist of sch_netem.c
	case c.Rate > 0 && c.Rate < 8:
		why = "a rate below 8 bits per second"
	case c.Burst > 0 && (c.Overhead < 0 || c.Overhead > math.MaxUint16):
		why = fmt.Sprintf("an overhead of %d bytes with a burst: that is tbf's, 0 to 65535", c.Overhead)
	case c.Burst > 0 && float64(c.Burst+c.Overhead)*8/c.Rate > longestBurst.Seconds():
		why = fmt.Sprintf("a burst that lasts longer than %s at the rate: tbf tells its time in 32 bits", longestBurst)
	default:
		return nil
	}
	return fmt.Errorf("netem: %s: %w", why, experiment.ErrUnsupported)
}
