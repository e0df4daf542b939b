package op

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Verify implements experiment.Verifier: the table is there with all its
// chains and rules, bound to the links that were meant. Felt says whether a
// packet matched so far.
func (t *Table) Verify(context.Context) (e experiment.Evidence, err error) {
	err = t.host.FS.InNetwork(t.Net, func() error {
		fd, err := openNft()
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		missing, err := t.missing(fd)
		if err != nil {
			return err
		}
		if missing != "" {
			e = experiment.Evidence{What: missing, Hint: "somebody removed it, or the process that held it died"}
			return nil
		}
		seen, err := t.tally(fd)
		if err != nil {
			return err
		}
		e = t.evidence(seen)
		return t.bound(fd, &e)
	})
	return e, err
}

// missing says what of the table is not there, "" where all is.
func (t *Table) missing(fd int) (string, error) {
	want, err := t.resolved()
	if errors.Is(err, unix.ENODEV) {
		return err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	messages, err := want.compile()
	if err != nil {
		return "", err
	}
	for _, family := range t.families() {
		for _, kind := range []uint16{unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_NEWRULE} {
			n := 0
			for _, m := range messages {
				if m.kind == kind && m.family == family {
					n++
				}
			}
			there, err := t.list(fd, kind, family)
			switch {
			case err != nil:
				return "", err
			case kind == unix.NFT_MSG_NEWCHAIN && len(there) == 0:
				return fmt.Sprintf("no nft table %s %s", familyName(family), t.Name), nil
			case len(there) != n:
				return fmt.Sprintf("nft table %s %s has %d of its %d chains or rules", familyName(family), t.Name, len(there), n), nil
			}
		}
	}
	return "", nil
}

// list returns the table's objects of the kind that a message makes.
func (t *Table) list(fd int, made uint16, family uint8) ([]nftObject, error) {
	ask, table := uint16(unix.NFT_MSG_GETRULE), uint16(unix.NFTA_RULE_TABLE)
	if made == unix.NFT_MSG_NEWCHAIN {
		ask, table = unix.NFT_MSG_GETCHAIN, unix.NFTA_CHAIN_TABLE
	}
	var body attrs
	body.text(table, t.Name)
	all, err := dumpNft(fd, ask, family, body)
	if errors.Is(err, unix.ENOENT) { // no such table
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list nft table %s: %w", t.Name, err)
	}
	return slices.DeleteFunc(all, func(o nftObject) bool { return o.family != family || o.text(table) != t.Name }), nil
}

// bound asks whether netdev chains hang on the links that were meant: a kernel
// may bind them by name, and so lose a link that was given another.
func (t *Table) bound(fd int, e *experiment.Evidence) error {
	if !slices.Contains(t.families(), unix.NFPROTO_NETDEV) {
		return nil
	}
	chains, err := t.list(fd, unix.NFT_MSG_NEWCHAIN, unix.NFPROTO_NETDEV)
	if err != nil {
		return err
	}
	var on []int
	for _, c := range chains {
		hook := parseAttrs(c.parsed[unix.NFTA_CHAIN_HOOK])
		devices := []string{hook.text(unix.NFTA_HOOK_DEV)}
		for _, name := range eachAttr(hook[nftaHookDevs]) {
			devices = append(devices, unix.ByteSliceToString(name))
		}
		for _, d := range devices {
			if d == "" {
				continue
			}
			if index, err := linkIndex(d); err == nil {
				on = append(on, index)
			}
		}
	}
	for _, l := range t.Match.Links {
		if !slices.Contains(on, l.Index) {
			e.InForce = false
			e.Hint = fmt.Sprintf("link %s (%d) is gone, or has another name", l.Name, l.Index)
		}
	}
	return nil
}

// tally returns the table's counters by name, in packets.
func (t *Table) tally(fd int) (map[string]uint64, error) {
	seen := map[string]uint64{}
	for _, family := range t.families() {
		var body attrs
		body.text(unix.NFTA_OBJ_TABLE, t.Name)
		body.u32(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER)
		objects, err := dumpNft(fd, unix.NFT_MSG_GETOBJ, family, body)
		if err != nil {
			return nil, fmt.Errorf("read counters of nft table %s: %w", t.Name, err)
		}
		for _, o := range objects {
			if o.family == family && o.text(unix.NFTA_OBJ_TABLE) == t.Name {
				seen[o.text(unix.NFTA_OBJ_NAME)] = parseAttrs(o.parsed[unix.NFTA_OBJ_DATA]).number(unix.NFTA_COUNTER_PACKETS)
			}
		}
	}
	return seen, nil
}

// evidence tells what the counters say.
func (t *Table) evidence(seen map[string]uint64) experiment.Evidence {
	var what, hints []string
	felt := experiment.FeltNothing
	for _, w := range t.ways() {
		matched, lost := seen[w.name+"_matched"], seen[w.name+"_lost"]
		text := fmt.Sprintf("%s of %s packets that %s %s matched", thousands(matched), thousands(seen[w.name+"_seen"]), w.verb(), t.linkNames())
		struck := matched > 0
		if t.Act.Kind == ActDrop && t.Act.Percent > 0 && t.Act.Percent < 100 {
			text += ", " + thousands(lost) + " lost"
			struck = lost > 0
		}
		what = append(what, text)
		switch {
		case struck:
			felt = experiment.FeltYes
		case matched > 0 && felt == experiment.FeltNothing:
			felt = experiment.FeltNo
		case matched == 0:
			hints = append(hints, t.hint(w, seen))
		}
	}
	e := experiment.Evidence{InForce: true, Felt: felt, What: strings.Join(append(what, t.remarks()...), "; ")}
	switch felt {
	case experiment.FeltNothing:
		e.Hint = "nothing matched: " + strings.Join(hints, "; ")
	case experiment.FeltNo:
		e.Hint = "too few packets matched for one of them to be lost"
	}
	return e
}

// remarks are what a reader should know besides.
func (t *Table) remarks() []string {
	var r []string
	if t.Plain {
		r = append(r, "the table has no owner (Linux before 5.12): it outlives its process until it is taken back")
	}
	if t.NoEgress && t.Match.Egress {
		r = append(r, "dropped in postrouting (no egress hook before Linux 5.16): the sender may be told")
	}
	if h := t.held(); h != nil {
		r = append(r, h.remarks()...)
	}
	return r
}

func (t *Table) linkNames() string {
	var names []string
	for _, l := range t.Match.Links {
		names = append(names, l.Name)
	}
	return strings.Join(names, ",")
}

// verb tells what packets do at a link.
func (w nftWay) verb() string {
	if w.egress {
		return "left"
	}
	return "came in at"
}
