package op

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/filter"
)

// How rules stand in a table, for each direction:
//
//	base chain, one for each link (netdev) or for all (inet)
//	│ mark of a packet sent on by the queue: cleared, accepted
//	│ count seen
//	│ jump ─▶ egress_match ─▶ egress_ipv4, egress_ipv6
//	│                         │ excluded: count, accept
//	│           matches ◀─────│ return
//	│                         │ all others: count what they had of it, accept
//	│ count matched
//	▼ act
//
// Whatever does not hold ends a rule: so all is asked for positively, and a
// packet that can't be read matches nothing. Only what does not match is
// counted in detail: what does takes the shortest way.

// nftCompiler collects the messages of one transaction.
type nftCompiler struct {
	t                                            *Table
	tables, counters, sets, chains, fills, rules []nftMessage
	known                                        map[string]bool // tables, counters and sets by family and name
}

// nftWay is packets of one direction, where they are caught.
type nftWay struct {
	name   string // egress or ingress
	egress bool
	family uint8
	hook   uint32
	prio   int32
	kind   string // of its base chains: nat, or filter where it is empty
}

// compile returns the transaction that makes t. Devices that packets are given
// to must have their index.
func (t *Table) compile() ([]nftMessage, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	c := &nftCompiler{t: t, known: map[string]bool{}}
	for _, w := range t.ways() {
		c.way(w)
	}
	return slices.Concat(c.tables, c.counters, c.sets, c.chains, c.fills, c.rules), nil
}

// check refuses what can't be compiled.
func (t *Table) check() error {
	switch {
	case len(t.Match.Links) == 0:
		return fmt.Errorf("compile nft table %s: no link", t.Name)
	case !t.Match.Egress && !t.Match.Ingress:
		return fmt.Errorf("compile nft table %s: no direction", t.Name)
	case t.Name == "" || len(t.Name) >= unix.NFT_NAME_MAXLEN:
		return fmt.Errorf("compile nft table: %q is no name", t.Name)
	case t.Act.Percent < 0 || t.Act.Percent > 100 || t.Match.Percent < 0 || t.Match.Percent > 100:
		return fmt.Errorf("compile nft table %s: a percentage is not 0 to 100", t.Name)
	case t.Act.Kind == ActPrio && t.Match.Ingress:
		return fmt.Errorf("compile nft table %s: packets that come in have no class", t.Name)
	}
	switch t.Act.Kind {
	case ActDrop, ActReject, ActReset, ActPrio:
		return nil
	case ActFwd:
		return t.checkForwards()
	}
	return fmt.Errorf("compile nft table %s: unknown act %q", t.Name, t.Act.Kind)
}

func (t *Table) checkForwards() error {
	for _, w := range t.ways() {
		for _, l := range t.Match.Links {
			if d := t.Act.device(l.Index, w.egress); d.Index <= 0 {
				return fmt.Errorf("compile nft table %s: no device for %s of %s", t.Name, w.name, l.Name)
			}
		}
	}
	return nil
}

// ways tells where packets are caught. Netdev hooks see packets as the wire
// does: after source NAT, with ARP; first of all on the way in, last on the way
// out. A sender is told of a rejection at its own socket's hook.
func (t *Table) ways() []nftWay {
	var ways []nftWay
	if t.Match.Egress {
		w := nftWay{"egress", true, unix.NFPROTO_NETDEV, unix.NF_NETDEV_EGRESS, 500, ""}
		switch {
		case t.Act.tells():
			w.family, w.hook, w.prio = unix.NFPROTO_INET, unix.NF_INET_LOCAL_OUT, 0
		case t.Act.Kind == ActPrio || t.NoEgress:
			w.family, w.hook, w.prio = unix.NFPROTO_INET, unix.NF_INET_POST_ROUTING, 300
		}
		ways = append(ways, w)
	}
	if t.Match.Ingress {
		w := nftWay{"ingress", false, unix.NFPROTO_NETDEV, unix.NF_NETDEV_INGRESS, -500, ""}
		if t.Act.tells() {
			w.family, w.hook, w.prio = unix.NFPROTO_INET, unix.NF_INET_LOCAL_IN, 0
		}
		ways = append(ways, w)
	}
	return ways
}

// way adds all rules of one direction.
func (c *nftCompiler) way(w nftWay) {
	c.table(w)
	if w.family == unix.NFPROTO_INET {
		c.base(w, w.name, filter.Link{})
	} else {
		for _, l := range c.t.Match.Links {
			c.base(w, w.name+"_"+l.Name, l)
		}
	}
	if !c.t.everything() {
		c.judge(w)
	}
}

// base adds a base chain. In family netdev it is of one link.
func (c *nftCompiler) base(w nftWay, name string, l filter.Link) {
	c.baseChain(w, name, l.Name)
	add := func(phrases ...phrase) { c.rule(w, name, phrases...) }
	if c.t.Act.Mark != 0 {
		mark := binary.NativeEndian.AppendUint32(nil, c.t.Act.Mark)
		add(metaIs(unix.NFT_META_MARK, fmt.Sprintf("meta mark %#x", c.t.Act.Mark), mark...),
			metaSet(unix.NFT_META_MARK, "meta mark set 0", 0), accept())
	}
	if w.family == unix.NFPROTO_INET {
		add(c.elsewhere(w), accept())
	}
	add(c.count(w, "seen"))
	c.answers(w, add)
	switch {
	case !c.t.everything():
		add(jumpTo(w.name + "_match"))
	case c.t.Act.tells(): // who is to be told must be found
		c.neighbours(w, name)
	}
	add(c.count(w, "matched"))
	for _, act := range c.act(w, l) {
		add(act...)
	}
}

// elsewhere is of links that are not meant.
func (c *nftCompiler) elsewhere(w nftWay) phrase {
	var keys [][]byte
	for _, l := range c.t.Match.Links {
		keys = append(keys, binary.NativeEndian.AppendUint32(nil, uint32(l.Index)))
	}
	set := c.set(w, "links", func() nftSet { return nftSet{kind: kindLink(), spans: singles(keys...)} })
	if w.egress {
		return metaIn(unix.NFT_META_OIF, "oif", set, true)
	}
	return metaIn(unix.NFT_META_IIF, "iif", set, true)
}

// table adds the table of w's family, if it is not there yet.
func (c *nftCompiler) table(w nftWay) {
	if !c.fresh(w.family, "table") {
		return
	}
	m := nftMessage{kind: unix.NFT_MSG_NEWTABLE, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, family: w.family}
	m.body.text(unix.NFTA_TABLE_NAME, c.t.Name)
	m.text = fmt.Sprintf("table %s %s", familyName(w.family), c.t.Name)
	if !c.t.Plain {
		m.body.u32(unix.NFTA_TABLE_FLAGS, nftTableOwner)
		m.text += " { flags owner; }"
	}
	c.tables = append(c.tables, m)
}

func (c *nftCompiler) fresh(family uint8, name string) bool {
	key := familyName(family) + " " + name
	was := c.known[key]
	c.known[key] = true
	return !was
}

// count is a phrase that counts, and its counter.
func (c *nftCompiler) count(w nftWay, what string) phrase {
	name := w.name + "_" + what
	if c.fresh(w.family, name) {
		m := nftMessage{kind: unix.NFT_MSG_NEWOBJ, flags: unix.NLM_F_CREATE, family: w.family, text: "counter " + name}
		m.body.text(unix.NFTA_OBJ_TABLE, c.t.Name)
		m.body.text(unix.NFTA_OBJ_NAME, name)
		m.body.u32(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER)
		m.body.nest(unix.NFTA_OBJ_DATA, func(*attrs) {})
		c.counters = append(c.counters, m)
	}
	return count(name)
}

// set adds a set to the table of w's family, if it is not there yet, and
// returns its name.
func (c *nftCompiler) set(w nftWay, name string, made func() nftSet) string {
	if c.fresh(w.family, "@"+name) {
		s := made()
		s.name = name
		c.sets = append(c.sets, s.message(c.t.Name, w.family, uint32(len(c.sets)+1)))
		c.fills = append(c.fills, s.elements(c.t.Name, w.family)...)
	}
	return name
}

func (c *nftCompiler) chain(w nftWay, name string) *nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_NEWCHAIN, flags: unix.NLM_F_CREATE, family: w.family, text: "chain " + name}
	m.body.text(unix.NFTA_CHAIN_TABLE, c.t.Name)
	m.body.text(unix.NFTA_CHAIN_NAME, name)
	c.chains = append(c.chains, m)
	return &c.chains[len(c.chains)-1]
}

// baseChain adds a chain that the kernel calls for each packet.
func (c *nftCompiler) baseChain(w nftWay, name, device string) {
	m := c.chain(w, name)
	m.body.nest(unix.NFTA_CHAIN_HOOK, func(a *attrs) {
		a.u32(unix.NFTA_HOOK_HOOKNUM, w.hook)
		a.u32(unix.NFTA_HOOK_PRIORITY, uint32(w.prio))
		if device != "" {
			a.text(unix.NFTA_HOOK_DEV, device)
		}
	})
	m.body.u32(unix.NFTA_CHAIN_POLICY, nfAccept)
	kind := cmp.Or(w.kind, "filter")
	m.body.text(unix.NFTA_CHAIN_TYPE, kind)
	m.text += fmt.Sprintf(" { type %s hook %s", kind, hookName(w))
	if device != "" {
		m.text += fmt.Sprintf(" device %q", device)
	}
	m.text += fmt.Sprintf(" priority %d; policy accept; }", w.prio)
}

// rule adds a rule to the end of a chain.
func (c *nftCompiler) rule(w nftWay, chain string, phrases ...phrase) {
	m := nftMessage{kind: unix.NFT_MSG_NEWRULE, flags: unix.NLM_F_CREATE | unix.NLM_F_APPEND, family: w.family}
	m.body.text(unix.NFTA_RULE_TABLE, c.t.Name)
	m.body.text(unix.NFTA_RULE_CHAIN, chain)
	words := []string{chain + ":"}
	m.body.nest(unix.NFTA_RULE_EXPRESSIONS, func(a *attrs) {
		for _, p := range phrases {
			words = append(words, p.text)
			for _, e := range p.exprs {
				a.nest(unix.NFTA_LIST_ELEM, func(a *attrs) {
					a.text(unix.NFTA_EXPR_NAME, e.name)
					a.nest(unix.NFTA_EXPR_DATA, func(a *attrs) { *a = append(*a, e.data...) })
				})
			}
		}
	})
	m.text = strings.Join(words, " ")
	c.rules = append(c.rules, m)
}

func familyName(family uint8) string {
	if family == unix.NFPROTO_NETDEV {
		return "netdev"
	}
	return "inet"
}

func hookName(w nftWay) string {
	switch {
	case w.family == unix.NFPROTO_NETDEV:
		return w.name
	case w.hook == unix.NF_INET_LOCAL_IN:
		return "input"
	case w.hook == unix.NF_INET_LOCAL_OUT:
		return "output"
	}
	return "postrouting"
}
