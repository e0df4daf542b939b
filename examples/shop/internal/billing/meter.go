package billing

import (
	"sync"
	"time"
)

const (
	meterWindow = 5 * time.Second        // how far back the meter looks
	meterSlot   = 100 * time.Millisecond // what it counts together
	meterSlots  = int64(meterWindow / meterSlot)
)

// meter counts orders a minute, of the last five seconds; of the time since the
// first order where that is less, so that it need not warm up.
type meter struct {
	now func() time.Time

	mu    sync.Mutex
	slots [meterSlots]int64 // a ring, by slot number
	last  int64             // number of the newest slot, counted from 1970
	since int64             // number of the slot of the first order after a pause
}

func newMeter(now func() time.Time) *meter { return &meter{now: now} }

func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n == 0 {
		return
	}
	now := m.turn()
	if m.sum() == 0 {
		m.since = now
	}
	m.slots[now%meterSlots] += n
}

// perMinute returns orders a minute.
func (m *meter) perMinute() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.turn()
	slots := min(now-m.since+1, meterSlots)
	slots = max(slots, int64(time.Second/meterSlot)) // one order at once is not 600 a minute
	return m.sum() * int64(time.Minute/meterSlot) / slots
}

// turn empties the slots that are older than the window.
func (m *meter) turn() int64 {
	now := m.now().UnixNano() / int64(meterSlot)
	for i := max(m.last+1, now-meterSlots+1); i <= now; i++ {
		m.slots[i%meterSlots] = 0
	}
	m.last = max(m.last, now)
	return m.last
}

func (m *meter) sum() (n int64) {
	for _, s := range m.slots {
		n += s
	}
	return n
}
