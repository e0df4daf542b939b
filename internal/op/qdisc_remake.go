package op

import (
	"cmp"
	"slices"

	"golang.org/x/sys/unix"
)

// remake returns m as it is to be made on a link: some kinds are told in
// another way than they are asked for.
func (m tcMessage) remake(index int) (tcMessage, error) {
	m.Index = index
	m.Attrs = slices.Clone(m.Attrs)
	for i, a := range m.Attrs {
		if a.Type != tcaOptions {
			continue
		}
		options, err := remakeOptions(m.kind(), slices.Clone(a.Data))
		if err != nil {
			return m, err
		}
		m.Attrs[i].Data = options
	}
	return m, nil
}

func remakeOptions(kind string, options []byte) ([]byte, error) {
	switch kind {
	case "htb":
		return edit(options, func(a *tcAttr) bool {
			if a.Type == htbInit && len(a.Data) == sizeofHtbGlob {
				native.PutUint32(a.Data, native.Uint32(a.Data)>>16) // told as 3.17, asked for as 3
			}
			return true
		})
	case "tbf":
		return remakeTbf(options)
	case "fq_codel":
		return edit(options, remakeCodel)
	case "u32":
		return edit(options, func(a *tcAttr) bool {
			if a.Type != u32Flags || len(a.Data) != 4 {
				return true
			}
			flags := native.Uint32(a.Data) &^ u32InHW
			native.PutUint32(a.Data, flags)
			return flags != 0
		})
	}
	return options, nil
}

// remakeTbf asks for the burst in bytes too, as tc does: from its time the
// kernel would make one that is a byte less, and drop packets as long as it.
func remakeTbf(options []byte) ([]byte, error) {
	t, burst, err := decodeTbf(options)
	if err != nil {
		return nil, err
	}
	bytes := (float64(burst)*64+63)*float64(t.rate)/1e9 - float64(t.overhead)
	t.burst = int(bytes)
	for t.ticks() > burst && t.burst > 1 {
		t.burst--
	}
	list, err := decodeAttrs(options)
	if err != nil {
		return nil, err
	}
	return appendUint32(encodeAttrs(list), tbfBurst, uint32(t.burst)), nil
}

// remakeCodel asks for the times that are told: the kernel keeps them in units
// of 1.024 µs and rounds down both ways (codel.h).
func remakeCodel(a *tcAttr) bool {
	switch a.Type {
	case fqCodelTarget, fqCodelInterval, fqCodelCEThreshold:
		if len(a.Data) != 4 {
			return true
		}
		told := uint64(native.Uint32(a.Data))
		for ask := told; ask <= told+2; ask++ {
			if (ask*1000>>10)<<10/1000 == told {
				native.PutUint32(a.Data, uint32(ask))
				break
			}
		}
	}
	return true
}

// restoreStep is a message that makes a part of a tree.
type restoreStep struct {
	kind int // RTM_NEWQDISC, RTM_NEWTCLASS or RTM_NEWTFILTER
	tcMessage
}

// order lists what is to be made below the root: each part after what it hangs
// from, filters last.
func (t *tree) order() []restoreStep {
	made := map[uint32]bool{t.qdiscs[0].Handle: true}
	auto := map[uint32]bool{} // major numbers of qdiscs that have their classes by themselves
	pending := t.parts()
	var steps []restoreStep
	mark := func(m tcMessage, qdisc bool) {
		made[m.Handle] = true
		auto[m.Handle>>16] = auto[m.Handle>>16] || qdisc && m.kind() != "htb"
	}
	mark(t.qdiscs[0], true)
	for again := true; again; {
		again = false
		pending = slices.DeleteFunc(pending, func(s restoreStep) bool {
			root := s.kind == unix.RTM_NEWTCLASS && s.Parent == handleRoot && made[s.Handle&^0xffff]
			if !made[s.Parent] && !auto[s.Parent>>16] && !root {
				return false
			}
			steps, again = append(steps, s), true
			mark(s.tcMessage, s.kind == unix.RTM_NEWQDISC)
			return true
		})
	}
	return append(append(steps, pending...), t.filterOrder()...) // what is left the kernel refuses, in its words
}

// parts are the qdiscs below the root, and the classes that must be made.
func (t *tree) parts() []restoreStep {
	var list []restoreStep
	for _, m := range t.classes {
		if m.kind() == "htb" {
			m.Info = 0 // its leaf, which is made next
			list = append(list, restoreStep{unix.RTM_NEWTCLASS, m})
		}
	}
	for _, m := range t.qdiscs[1:] {
		list = append(list, restoreStep{unix.RTM_NEWQDISC, m})
	}
	return list
}

// filterOrder lists the filters in the order in which each gets the handle it
// had. What u32 has of its own accord is left out: the head of each priority,
// and its first hash table, which the kernel counts up from 800:.
//
//	u32 handle  hash table 12 bits, bucket 8 bits, key 12 bits
func (t *tree) filterOrder() []restoreStep {
	var list []restoreStep
	first := map[tcPlace]uint32{} // the kernel's own table of each priority
	for _, m := range t.filters {
		if m.Handle != 0 && m.Handle>>20 >= 0x800 && m.Handle&0xfffff == 0 {
			first[m.place()] = m.Handle
			continue
		}
		if m.Handle != 0 {
			list = append(list, restoreStep{unix.RTM_NEWTFILTER, m})
		}
	}
	slices.SortStableFunc(list, func(a, b restoreStep) int {
		return cmp.Or(
			cmp.Compare(first[a.place()], first[b.place()]),
			cmp.Compare(a.Handle&0xfffff, b.Handle&0xfffff), // a table before the keys that may lead to it
		)
	})
	return list
}

// tcPlace is where a filter hangs: its parent, and its priority and protocol.
type tcPlace struct{ parent, info uint32 }

func (m *tcMessage) place() tcPlace { return tcPlace{m.Parent, m.Info} }
