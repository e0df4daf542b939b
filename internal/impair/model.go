package impair

import (
	"math/rand/v2"
	"time"
)

// Fate is what becomes of one packet. Times are in nanoseconds on the clock
// that Packet was told.
type Fate struct {
	Due       int64 // when it goes on; of no meaning where it is lost
	Lost      bool
	Corrupt   bool  // one bit of it, chosen by Bit, is flipped
	Reordered bool  // it was not delayed
	Copies    int   // 1 where a copy goes too
	CopyDue   int64 // when the copy does
	CopyBad   bool  // one bit of the copy is flipped
}

// Model decides the fate of packets, one after the other. It is not for use by
// several goroutines at once.
//
// A packet meets what Config names in this order, as in netem_enqueue of the
// kernel's net/sched/sch_netem.c: is it doubled, is it lost, is it corrupted,
// does it overtake, when is it due.
//
//	packet ─▶ duplicate ─▶ loss ─▶ corrupt ─▶ rate ─┬─ reorder ────────▶ due
//	                                                └─ delay + jitter ─▶ due
//
// Where netem has known flaws it does what was meant: a correlation leaves
// percentages and the distribution of delays as they are (netem's mean of two
// random numbers changes both), and Rate is told before the delay, not after
// it, so that jitter keeps its distribution behind a rate too (netem sends all
// in order then, and a delayed packet holds up those behind it).
type Model struct {
	draw      draw
	jitter    jitter
	loss      losses
	duplicate chance
	corrupt   chance
	reorder   chance
	gap       int
	since     int // packets delayed since one overtook
	pace      pace
}

// New returns the model of cfg. All that is random in it comes from src, such
// as a *rand.PCG: the same seed gives the same fates.
func New(cfg Config, src rand.Source) *Model {
	return &Model{
		draw:      draw{src, rand.New(src)},
		jitter:    newJitter(cfg),
		loss:      newLosses(cfg.Loss),
		duplicate: newChance(cfg.Duplicate),
		corrupt:   newChance(cfg.Corrupt),
		reorder:   newChance(cfg.Reorder),
		gap:       max(cfg.Gap, 1),
		pace:      newPace(cfg),
	}
}

// Packet decides the fate of a packet of size bytes on the wire that came at
// now. Time must not go back from one call to the next. It does not allocate.
func (m *Model) Packet(now int64, size int) Fate {
	copies := 1
	if m.duplicate.happens(&m.draw) {
		copies++
	}
	if m.loss.happens(&m.draw) { // of two that go, it takes one, as netem does
		copies--
	}
	if copies == 0 {
		return Fate{Lost: true}
	}
	f := Fate{Copies: copies - 1, Corrupt: m.corrupt.happens(&m.draw)}
	f.Due, f.Reordered = m.due(now, size)
	if f.Copies > 0 {
		f.CopyBad = m.corrupt.happens(&m.draw)
		f.CopyDue, _ = m.due(now, size)
	}
	return f
}

// due tells when a packet goes on, and whether it does without delay.
func (m *Model) due(now int64, size int) (due int64, reordered bool) {
	sent := m.pace.sent(now, size)
	if m.overtakes() {
		return sent, true
	}
	return sent + m.jitter.delay(&m.draw), false
}

// overtakes says whether the next packet is one that is not delayed: once
// gap-1 were, each of those that follow may be, until one is.
func (m *Model) overtakes() bool {
	if m.reorder.share == 0 {
		return false
	}
	if m.since < m.gap-1 || !m.reorder.happens(&m.draw) {
		m.since++
		return false
	}
	m.since = 0
	return true
}

// Bit chooses the bit to flip in a packet of size bytes: the byte, and a mask
// with that bit.
func (m *Model) Bit(size int) (offset int, mask byte) {
	if size <= 0 {
		return 0, 0
	}
	return m.draw.rand.IntN(size), 1 << m.draw.rand.IntN(8)
}

// draw is where chance comes from.
type draw struct {
	src  rand.Source
	rand *rand.Rand
}

// uniform returns a number in [0, 1).
func (d *draw) uniform() float64 { return float64(d.src.Uint64()>>11) / (1 << 53) }

// pace tells when packets leave a link of a rate. It is the token bucket told
// by time instead of tokens (the virtual scheduling of ITU-T I.371, annex A):
// a packet leaves when its last bit does, but after a pause those of burst
// bytes leave at once.
type pace struct {
	perByte  float64 // nanoseconds; 0 is no limit
	slack    int64   // nanoseconds, the burst
	overhead int
	free     int64   // when the last bit of all so far has left
	part     float64 // of a nanosecond, after free
	started  bool
}

func newPace(cfg Config) pace {
	if cfg.Rate <= 0 {
		return pace{}
	}
	perByte := 8 * float64(time.Second) / cfg.Rate
	return pace{perByte: perByte, slack: int64(perByte * float64(cfg.Burst)), overhead: cfg.Overhead}
}

// sent tells when a packet has left that came at now.
func (p *pace) sent(now int64, size int) int64 {
	if p.perByte == 0 {
		return now
	}
	if idle := now - p.slack; !p.started || p.free < idle {
		p.free, p.part, p.started = idle, 0, true
	}
	takes := p.perByte*float64(max(size+p.overhead, 0)) + p.part
	whole := int64(takes)
	p.free, p.part = p.free+whole, takes-float64(whole)
	return max(now, p.free)
}
