package proc

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// nftables (nft(8)) are read as the attributes that the kernel sends
// (include/uapi/linux/netfilter/nf_tables.h), and not through a library that
// knows some expressions and leaves out others: what is not understood is
// compared all the same. One request reads all rules of all tables.

// nlaTypeMask is NLA_TYPE_MASK of include/uapi/linux/netlink.h: a type without
// the flags that share its field.
const nlaTypeMask = 0x3fff

// attributes are those of one netlink message, by type.
type attributes map[uint16][]byte

func parseAttributes(data []byte) (attributes, error) {
	list, err := nl.ParseRouteAttr(data)
	if err != nil {
		return nil, fmt.Errorf("parse attributes: %w", err)
	}
	a := attributes{}
	for _, attr := range list {
		a[attr.Attr.Type&nlaTypeMask] = attr.Value
	}
	return a, nil
}

// text returns a string attribute without the zero at its end.
func (a attributes) text(kind uint16) string { return strings.TrimRight(string(a[kind]), "\x00") }

// number returns a number in network order.
func (a attributes) number(kind uint16) uint32 {
	if len(a[kind]) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(a[kind])
}

// hex writes the attributes of these kinds, those that are there.
func (a attributes) hex(names map[string]uint16, order ...string) string {
	var words []string
	for _, name := range order {
		if value, ok := a[names[name]]; ok {
			words = append(words, name+"="+hex.EncodeToString(value))
		}
	}
	return strings.Join(words, " ")
}

// nftFamilies are the words of nft(8) for nfgenmsg's families.
var nftFamilies = map[byte]string{
	unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6",
	unix.NFPROTO_ARP: "arp", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_NETDEV: "netdev",
}

// object is one thing of nftables: its family and its attributes.
type object struct {
	family byte
	attributes
}

// in names the table an object is in: "inet filter".
func (o object) in(kind uint16) string { return nftFamilies[o.family] + " " + o.text(kind) }

// dumpNFT asks for all objects that a message gives, of all families or one.
func dumpNFT(message int, family byte, more ...*nl.RtAttr) ([]object, error) {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|message, unix.NLM_F_DUMP)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: family})
	for _, attr := range more {
		request.AddData(attr)
	}
	replies, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return nil, err
	}
	list := make([]object, 0, len(replies))
	for _, reply := range replies {
		if len(reply) < nl.SizeofNfgenmsg {
			return nil, errors.New("a reply is too short")
		}
		attrs, err := parseAttributes(reply[nl.SizeofNfgenmsg:])
		if err != nil {
			return nil, err
		}
		list = append(list, object{reply[0], attrs})
	}
	return list, nil
}

// nft reads the nftables of this thread's network namespace, without handles
// and counters.
func (r *netReader) nft() error {
	tables, err := dumpNFT(unix.NFT_MSG_GETTABLE, unix.AF_UNSPEC)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil // the kernel has none
	}
	if err != nil {
		return fmt.Errorf("list nft tables: %w", err)
	}
	if len(tables) == 0 {
		return nil
	}
	for _, t := range tables {
		r.lines = append(r.lines, fmt.Sprintf("nft table %s flags %d", t.in(unix.NFTA_TABLE_NAME), t.number(unix.NFTA_TABLE_FLAGS)))
	}
	for _, read := range []func() error{r.nftChains, r.nftRules, r.nftSets} {
		if err := read(); err != nil {
			return err
		}
	}
	return nil
}

func (r *netReader) nftChains() error {
	chains, err := dumpNFT(unix.NFT_MSG_GETCHAIN, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("list nft chains: %w", err)
	}
	for _, c := range chains {
		line := fmt.Sprintf("nft chain %s %s", c.in(unix.NFTA_CHAIN_TABLE), c.text(unix.NFTA_CHAIN_NAME))
		if c.attributes[unix.NFTA_CHAIN_HOOK] != nil {
			hook, err := parseAttributes(c.attributes[unix.NFTA_CHAIN_HOOK])
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" type %s hook %d priority %d device %q policy %d", c.text(unix.NFTA_CHAIN_TYPE),
				hook.number(unix.NFTA_HOOK_HOOKNUM), int32(hook.number(unix.NFTA_HOOK_PRIORITY)),
				hook.text(unix.NFTA_HOOK_DEV), c.number(unix.NFTA_CHAIN_POLICY))
		}
		r.lines = append(r.lines, line)
	}
	return nil
}

func (r *netReader) nftRules() error {
	rules, err := dumpNFT(unix.NFT_MSG_GETRULE, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("list nft rules: %w", err)
	}
	for _, rule := range rules {
		words, err := expressions(rule.attributes[unix.NFTA_RULE_EXPRESSIONS])
		if err != nil {
			return err
		}
		r.lines = append(r.lines, fmt.Sprintf("nft rule %s %s: %s", rule.in(unix.NFTA_RULE_TABLE), rule.text(unix.NFTA_RULE_CHAIN), words))
	}
	return nil
}

// expressions writes what a rule does, in order: each expression's name and
// its parameters as the kernel holds them.
func expressions(data []byte) (string, error) {
	list, err := nl.ParseRouteAttr(data)
	if err != nil {
		return "", fmt.Errorf("parse nft rule: %w", err)
	}
	words := make([]string, 0, len(list))
	for _, element := range list {
		e, err := parseAttributes(element.Value)
		if err != nil {
			return "", err
		}
		name := e.text(unix.NFTA_EXPR_NAME)
		value := e[unix.NFTA_EXPR_DATA]
		switch name {
		case "counter", "last": // they hold nothing but what moves
			value = nil
		case "quota":
			limit, err := parseAttributes(value)
			if err != nil {
				return "", err
			}
			value = append(limit[unix.NFTA_QUOTA_BYTES], limit[unix.NFTA_QUOTA_FLAGS]...)
		}
		words = append(words, strings.TrimSpace(name+" "+hex.EncodeToString(value)))
	}
	return strings.Join(words, " · "), nil
}

// nftSets gives sets with their elements, but for those sets whose elements
// come and go with traffic or time.
func (r *netReader) nftSets() error {
	sets, err := dumpNFT(unix.NFT_MSG_GETSET, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("list nft sets: %w", err)
	}
	config := map[string]uint16{
		"key": unix.NFTA_SET_KEY_TYPE, "data": unix.NFTA_SET_DATA_TYPE,
		"length": unix.NFTA_SET_KEY_LEN, "timeout": unix.NFTA_SET_TIMEOUT,
	}
	for _, s := range sets {
		name, flags := s.in(unix.NFTA_SET_TABLE)+" "+s.text(unix.NFTA_SET_NAME), s.number(unix.NFTA_SET_FLAGS)
		r.lines = append(r.lines, fmt.Sprintf("nft set %s flags %d %s", name, flags, s.hex(config, "key", "length", "data", "timeout")))
		if flags&(unix.NFT_SET_TIMEOUT|unix.NFT_SET_EVAL) != 0 {
			continue
		}
		if err := r.nftElements(s, name); err != nil {
			return fmt.Errorf("list elements of nft set %s: %w", name, err)
		}
	}
	return nil
}

func (r *netReader) nftElements(s object, name string) error {
	replies, err := dumpNFT(unix.NFT_MSG_GETSETELEM, s.family,
		nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_TABLE, s.attributes[unix.NFTA_SET_TABLE]),
		nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_SET, s.attributes[unix.NFTA_SET_NAME]))
	if err != nil {
		return err
	}
	config := map[string]uint16{
		"key": unix.NFTA_SET_ELEM_KEY, "to": nftaSetElemKeyEnd, "data": unix.NFTA_SET_ELEM_DATA,
		"flags": unix.NFTA_SET_ELEM_FLAGS, "object": nftaSetElemObjref,
	}
	for _, reply := range replies {
		list, err := nl.ParseRouteAttr(reply.attributes[unix.NFTA_SET_ELEM_LIST_ELEMENTS])
		if err != nil {
			return err
		}
		for _, element := range list {
			e, err := parseAttributes(element.Value)
			if err != nil {
				return err
			}
			r.lines = append(r.lines, fmt.Sprintf("nft element %s %s", name, e.hex(config, "key", "to", "data", "flags", "object")))
		}
	}
	return nil
}

// Attributes of an element that came to nf_tables.h later than the others.
const (
	nftaSetElemObjref = 9
	nftaSetElemKeyEnd = 10
)
