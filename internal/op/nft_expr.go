package op

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// phrase is a part of a rule: what a reader is told, and the expressions that
// the kernel evaluates in order. One that does not hold ends the rule.
type phrase struct {
	text  string
	exprs []nftExpr
}

// nftExpr is one expression of a rule by its name in the kernel.
type nftExpr struct {
	name string
	data attrs
}

// reg is the first of the sixteen registers of 32 bits.
const reg = unix.NFT_REG32_00

func newExpr(name string, fill func(*attrs)) nftExpr {
	e := nftExpr{name: name}
	fill(&e.data)
	return e
}

// loadMeta puts what the kernel knows of a packet into a register.
func loadMeta(key uint32) nftExpr {
	return newExpr("meta", func(a *attrs) { a.u32(unix.NFTA_META_KEY, key); a.u32(unix.NFTA_META_DREG, reg) })
}

// setMeta sets what the kernel knows of a packet to the register's value.
func setMeta(key uint32) nftExpr {
	return newExpr("meta", func(a *attrs) { a.u32(unix.NFTA_META_KEY, key); a.u32(unix.NFTA_META_SREG, reg) })
}

// loadBytes puts bytes of a packet's header into registers.
func loadBytes(base, offset, length, dreg uint32) nftExpr {
	return newExpr("payload", func(a *attrs) {
		a.u32(unix.NFTA_PAYLOAD_DREG, dreg)
		a.u32(unix.NFTA_PAYLOAD_BASE, base)
		a.u32(unix.NFTA_PAYLOAD_OFFSET, offset)
		a.u32(unix.NFTA_PAYLOAD_LEN, length)
	})
}

// compare goes on where the register is so.
func compare(op uint32, data ...byte) nftExpr {
	return newExpr("cmp", func(a *attrs) {
		a.u32(unix.NFTA_CMP_SREG, reg)
		a.u32(unix.NFTA_CMP_OP, op)
		a.nest(unix.NFTA_CMP_DATA, func(a *attrs) { a.put(unix.NFTA_DATA_VALUE, data...) })
	})
}

// inSet goes on where the register is in a set, or where it is not.
func inSet(set string, not bool) nftExpr {
	return newExpr("lookup", func(a *attrs) {
		a.text(unix.NFTA_LOOKUP_SET, set)
		a.u32(unix.NFTA_LOOKUP_SREG, reg)
		if not {
			a.u32(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV)
		}
	})
}

// loadValue puts a constant into the register.
func loadValue(data ...byte) nftExpr {
	return newExpr("immediate", func(a *attrs) {
		a.u32(unix.NFTA_IMMEDIATE_DREG, reg)
		a.nest(unix.NFTA_IMMEDIATE_DATA, func(a *attrs) { a.put(unix.NFTA_DATA_VALUE, data...) })
	})
}

// mask keeps some bits of a register's two bytes.
func mask16(mask uint16) nftExpr {
	return newExpr("bitwise", func(a *attrs) {
		a.u32(unix.NFTA_BITWISE_SREG, reg)
		a.u32(unix.NFTA_BITWISE_DREG, reg)
		a.u32(unix.NFTA_BITWISE_LEN, 2)
		a.nest(unix.NFTA_BITWISE_MASK, func(a *attrs) {
			a.put(unix.NFTA_DATA_VALUE, binary.BigEndian.AppendUint16(nil, mask)...)
		})
		a.nest(unix.NFTA_BITWISE_XOR, func(a *attrs) { a.put(unix.NFTA_DATA_VALUE, 0, 0) })
	})
}

// below goes on where the register, a number of this machine's, is less.
func below(limit uint32) []nftExpr {
	return []nftExpr{
		newExpr("byteorder", func(a *attrs) {
			a.u32(unix.NFTA_BYTEORDER_SREG, reg)
			a.u32(unix.NFTA_BYTEORDER_DREG, reg)
			a.u32(unix.NFTA_BYTEORDER_OP, unix.NFT_BYTEORDER_HTON)
			a.u32(unix.NFTA_BYTEORDER_LEN, 4)
			a.u32(unix.NFTA_BYTEORDER_SIZE, 4)
		}),
		compare(unix.NFT_CMP_LT, binary.BigEndian.AppendUint32(nil, limit)...),
	}
}

// ofHundred is how many parts percentages are told in: 0.00001 % is one.
const ofHundred = 10_000_000

// parts of ofHundred are percent; at least one where it is not 0.
func parts(percent float64) uint32 {
	n := uint32(percent/100*ofHundred + 0.5)
	if n == 0 && percent > 0 {
		return 1
	}
	return n
}

// chance goes on for a share of packets, each by itself.
func chance(percent float64) phrase {
	random := newExpr("numgen", func(a *attrs) {
		a.u32(unix.NFTA_NG_DREG, reg)
		a.u32(unix.NFTA_NG_MODULUS, ofHundred)
		a.u32(unix.NFTA_NG_TYPE, unix.NFT_NG_RANDOM)
	})
	return phrase{
		fmt.Sprintf("numgen random mod %d < %d", ofHundred, parts(percent)),
		append([]nftExpr{random}, below(parts(percent))...),
	}
}

// hashBelow goes on where the hash of the registers' first bytes is in a share.
func hashBelow(length, seed uint32, percent float64) []nftExpr {
	hash := newExpr("hash", func(a *attrs) {
		a.u32(unix.NFTA_HASH_SREG, reg)
		a.u32(unix.NFTA_HASH_DREG, reg)
		a.u32(unix.NFTA_HASH_LEN, length)
		a.u32(unix.NFTA_HASH_MODULUS, ofHundred)
		a.u32(unix.NFTA_HASH_SEED, seed)
		a.u32(unix.NFTA_HASH_TYPE, unix.NFT_HASH_JENKINS)
	})
	return append([]nftExpr{hash}, below(parts(percent))...)
}

// count adds a packet to one of the table's counters.
func count(name string) phrase {
	return phrase{`counter "` + name + `"`, []nftExpr{newExpr("objref", func(a *attrs) {
		a.u32(unix.NFTA_OBJREF_IMM_TYPE, unix.NFT_OBJECT_COUNTER)
		a.text(unix.NFTA_OBJREF_IMM_NAME, name)
	})}}
}

// The verdicts of netfilter(7) and of nf_tables.h.
const (
	nfDrop, nfAccept = 0, 1
)

// verdict says what becomes of a packet; chain is where it goes on, or none.
func verdict(word string, code int32, chain string) phrase {
	return phrase{strings.TrimSpace(word + " " + chain), []nftExpr{newExpr("immediate", func(a *attrs) {
		a.u32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		a.nest(unix.NFTA_IMMEDIATE_DATA, func(a *attrs) {
			a.nest(unix.NFTA_DATA_VERDICT, func(a *attrs) {
				a.u32(unix.NFTA_VERDICT_CODE, uint32(code))
				if chain != "" {
					a.text(unix.NFTA_VERDICT_CHAIN, chain)
				}
			})
		})
	})}}
}

func accept() phrase             { return verdict("accept", nfAccept, "") }
func drop() phrase               { return verdict("drop", nfDrop, "") }
func back() phrase               { return verdict("return", unix.NFT_RETURN, "") }
func jumpTo(chain string) phrase { return verdict("jump", unix.NFT_JUMP, chain) }
func goTo(chain string) phrase   { return verdict("goto", unix.NFT_GOTO, chain) }

// forward gives a packet to another link. To link 0, which no link is, it is
// lost without a word: nf_fwd_netdev_egress of net/netfilter/nf_dup_netdev.c
// frees what has no link to go to, and the sender is told of success.
func forward(index int, name string) phrase {
	if index == 0 {
		name = "nowhere"
	}
	return phrase{"fwd to " + name, []nftExpr{
		loadValue(binary.NativeEndian.AppendUint32(nil, uint32(index))...),
		newExpr("fwd", func(a *attrs) { a.u32(unix.NFTA_FWD_SREG_DEV, reg) }),
	}}
}

// reject drops a packet and tells its sender.
func reject(kind uint32, code byte, text string) phrase {
	return phrase{"reject with " + text, []nftExpr{newExpr("reject", func(a *attrs) {
		a.u32(unix.NFTA_REJECT_TYPE, kind)
		a.put(unix.NFTA_REJECT_ICMP_CODE, code)
	})}}
}

// metaIs goes on where what the kernel knows of a packet is this.
func metaIs(key uint32, text string, data ...byte) phrase {
	return phrase{text, []nftExpr{loadMeta(key), compare(unix.NFT_CMP_EQ, data...)}}
}

// metaIn goes on where what the kernel knows of a packet is in a set, or not.
func metaIn(key uint32, word, set string, not bool) phrase {
	sign := " @"
	if not {
		sign = " != @"
	}
	return phrase{word + sign + set, []nftExpr{loadMeta(key), inSet(set, not)}}
}

// metaSet sets the mark or the priority of a packet.
func metaSet(key uint32, text string, value uint32) phrase {
	return phrase{text, []nftExpr{loadValue(binary.NativeEndian.AppendUint32(nil, value)...), setMeta(key)}}
}

// bytesAre goes on where bytes of a header are these.
func bytesAre(text string, base, offset uint32, data ...byte) phrase {
	return phrase{text, []nftExpr{loadBytes(base, offset, uint32(len(data)), reg), compare(unix.NFT_CMP_EQ, data...)}}
}
