package queue

// packet is a frame that waits.
type packet struct {
	due        int64  // nanoseconds on the plane's clock
	order      uint64 // in which packets came
	head, tail slot   // its bytes, the header of virtio_net first; tail is none for most
	size       int32  // bytes in both
}

// before tells whether p goes before q: at the same time, the one that came
// first does.
func (p *packet) before(q *packet) bool {
	return p.due < q.due || p.due == q.due && p.order < q.order
}

// hold is the packets that wait, in the order in which they are due. As long
// as each is due no earlier than those before it, which is so under a constant
// delay, they are a ring; one that is due earlier goes to a heap beside it.
type hold struct {
	ring  []packet // its length is a power of two
	first uint     // index of the oldest
	count uint
	heap  []packet
}

func newHold() hold { return hold{ring: make([]packet, 1<<12)} }

// add takes a packet in.
func (h *hold) add(p packet) {
	if h.count > 0 && p.due < h.at(h.count-1).due {
		h.push(p)
		return
	}
	if h.count == uint(len(h.ring)) {
		h.grow()
	}
	*h.at(h.count) = p
	h.count++
}

func (h *hold) at(i uint) *packet { return &h.ring[(h.first+i)&uint(len(h.ring)-1)] }

func (h *hold) grow() {
	ring := make([]packet, 2*len(h.ring))
	n := copy(ring, h.ring[h.first&uint(len(h.ring)-1):])
	copy(ring[n:], h.ring)
	h.ring, h.first = ring, 0
}

// next returns the packet that is due first, nil where none waits. It is valid
// until the hold is changed.
func (h *hold) next() *packet {
	switch {
	case h.count == 0 && len(h.heap) == 0:
		return nil
	case h.count == 0:
		return &h.heap[0]
	case len(h.heap) == 0 || h.at(0).before(&h.heap[0]):
		return h.at(0)
	}
	return &h.heap[0]
}

// take removes the packet that next returns.
func (h *hold) take() packet {
	if p := h.next(); len(h.heap) > 0 && p == &h.heap[0] {
		return h.pop()
	}
	p := *h.at(0)
	h.first++
	h.count--
	return p
}

func (h *hold) size() int { return int(h.count) + len(h.heap) }

// push and pop are those of container/heap without its interface, which would
// allocate for each packet.
func (h *hold) push(p packet) {
	h.heap = append(h.heap, p)
	i := len(h.heap) - 1
	for i > 0 {
		above := (i - 1) / 2
		if !p.before(&h.heap[above]) {
			break
		}
		h.heap[i] = h.heap[above]
		i = above
	}
	h.heap[i] = p
}

func (h *hold) pop() packet {
	top := h.heap[0]
	end := len(h.heap) - 1
	last := h.heap[end]
	h.heap = h.heap[:end]
	i := 0
	for {
		below := 2*i + 1
		if below >= end {
			break
		}
		if below+1 < end && h.heap[below+1].before(&h.heap[below]) {
			below++
		}
		if last.before(&h.heap[below]) {
			break
		}
		h.heap[i] = h.heap[below]
		i = below
	}
	if end > 0 {
		h.heap[i] = last
	}
	return top
}
