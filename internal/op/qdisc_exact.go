package op

import (
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"

	"github.com/simianhq/simian/experiment"
)

// Attributes of kinds that can be put back (include/uapi/linux/pkt_sched.h,
// pkt_cls.h).
const (
	htbInit       = 2
	htbOffload    = 9
	sizeofHtbGlob = 20

	u32Classid = 1
	u32Hash    = 2
	u32Divisor = 4
	u32Act     = 7
	u32Police  = 6
	u32Pcnt    = 9
	u32Flags   = 11

	fqCodelTarget      = 1
	fqCodelInterval    = 3
	fqCodelCEThreshold = 7

	sizeofSfqStats = 24 // struct tc_sfqred_stats, the end of struct tc_sfq_qopt_v1
	sizeofSfqV1    = 68

	u32InHW = 1<<2 | 1<<3 // flags that the kernel sets: in hardware, not in hardware
)

// restorable are the kinds of qdiscs whose dump tells all there is to know.
// Those that are not among them keep something to themselves (netem its table,
// red its curve), or nobody has tried.
func restorable(kind string) bool {
	switch kind {
	case "htb", "tbf", "noqueue", "pfifo", "bfifo", "pfifo_fast", "prio", "sfq", "fq_codel", "netem":
		return true
	}
	return false
}

// ownClass tells whether a restorable kind has its classes by itself.
func ownClass(kind string) bool { return restorable(kind) && kind != "htb" }

// exact gives ErrUnsupported where t has what can't be put back exactly.
func (t *tree) exact() error {
	made := slices.Clone(t.classes)
	made = slices.DeleteFunc(made, func(m tcMessage) bool { return ownClass(m.kind()) })
	for _, m := range slices.Concat(t.qdiscs, made, t.filters) {
		if why := m.inexact(); why != "" {
			return fmt.Errorf("%s can't be put back exactly: %s: %w", &m, why, experiment.ErrUnsupported)
		}
	}
	return nil
}

// inexact says why m can't be put back, or nothing.
func (m *tcMessage) inexact() string {
	for _, a := range m.Attrs {
		switch a.Type {
		case nl.TCA_RATE:
			return "it has a rate estimator"
		case nl.TCA_HW_OFFLOAD:
			return "it is in hardware"
		case nl.TCA_INGRESS_BLOCK, nl.TCA_EGRESS_BLOCK:
			return "it shares filters with another link"
		}
	}
	options := m.attr(tcaOptions)
	list, err := decodeAttrs(options)
	switch kind := m.kind(); kind {
	case "u32":
		return inexactU32(list, err)
	case "htb":
		if err != nil || attrOf(list, htbOffload) != nil {
			return "it is in hardware"
		}
	case "netem":
		return inexactNetem(options)
	default:
		if !restorable(kind) {
			return "nobody has made sure that the kernel tells all of a " + kind
		}
	}
	return ""
}

func inexactU32(options []tcAttr, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case attrOf(options, u32Act) != nil, attrOf(options, u32Police) != nil:
		return "it has an action"
	}
	if flags := attrOf(options, u32Flags); len(flags) == 4 && native.Uint32(flags)&(1<<2) != 0 {
		return "it is in hardware"
	}
	return ""
}

func inexactNetem(options []byte) string {
	n, err := decodeNetem(options)
	switch {
	case err != nil:
		return err.Error()
	case n.jitter != 0:
		return "the kernel does not tell the distribution of its jitter"
	}
	if list, _ := decodeAttrs(options[sizeofNetemQopt:]); attrOf(list, netemSlot) != nil {
		return "the kernel does not tell the distribution of its slots"
	}
	return ""
}

// settle takes out of m what is a statistic, or the link's.
func (m *tcMessage) settle() error {
	m.Index = 0
	estimated := len(attrOf(m.nested(nl.TCA_STATS2), nl.TCA_STATS_RATE_EST)) > 0
	m.Attrs = slices.DeleteFunc(m.Attrs, func(a tcAttr) bool {
		switch a.Type {
		case nl.TCA_STATS, nl.TCA_STATS2, nl.TCA_XSTATS, nl.TCA_FCNT, nl.TCA_PAD, nl.TCA_RATE:
			return true
		case nl.TCA_HW_OFFLOAD:
			return len(a.Data) == 1 && a.Data[0] == 0
		}
		return false
	})
	if estimated {
		m.Attrs = append(m.Attrs, tcAttr{nl.TCA_RATE, nil})
	}
	for i, a := range m.Attrs {
		if a.Type == tcaOptions {
			options, err := settleOptions(m.kind(), a.Data)
			if err != nil {
				return fmt.Errorf("read %s: %w", m, err)
			}
			m.Attrs[i].Data = options
		}
	}
	return nil
}

func (m *tcMessage) nested(kind uint16) []tcAttr {
	list, err := decodeAttrs(m.attr(kind))
	if err != nil {
		return nil
	}
	return list
}

// settleOptions does the same for a kind's own part.
func settleOptions(kind string, options []byte) ([]byte, error) {
	switch kind {
	case "htb":
		return edit(options, func(a *tcAttr) bool {
			if a.Type == htbInit && len(a.Data) == sizeofHtbGlob {
				native.PutUint32(a.Data[16:], 0) // packets that met no class
			}
			return true
		})
	case "sfq":
		if len(options) >= sizeofSfqV1 {
			clear(options[sizeofSfqV1-sizeofSfqStats : sizeofSfqV1])
		}
	case "u32":
		return edit(options, func(a *tcAttr) bool { return a.Type != u32Pcnt })
	}
	return options, nil
}

// edit returns attributes after fn has changed them, without those that it
// does not keep.
func edit(data []byte, fn func(a *tcAttr) (keep bool)) ([]byte, error) {
	list, err := decodeAttrs(data)
	if err != nil {
		return nil, err
	}
	var kept []tcAttr
	for _, a := range list {
		if fn(&a) {
			kept = append(kept, a)
		}
	}
	return encodeAttrs(kept), nil
}
