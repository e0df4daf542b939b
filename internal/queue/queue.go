// Package queue holds packets in user space, where the kernel has no netem. It
// is a process of its own, the helper, and what its parent needs to talk to it.
//
// An nft table in the target's network namespace forwards packets to a TAP
// device (a TUN device where the link has no hardware addresses). The helper
// reads them there, holds them for as long as impair.Model says, and sends
// them on:
//
//	egress    stack ─▶ link's egress hook ─fwd▶ TAP ─▶ helper ─packet socket, with Mark─▶ link ─▶ far end
//	ingress   far end ─▶ link's ingress hook ─fwd▶ TAP ─▶ helper ─▶ the same TAP ─BPF: Mark, redirect▶ link ─▶ stack
//
// Both hooks let pass what has Mark. The helper alone holds the devices, the
// sockets and the socket that owns the nft table, so that the kernel takes all
// of it back when the helper ends, however it ends, and traffic flows as if
// nothing had been there.
//
// The package imports the standard library only: it runs before the rest of
// the binary is initialised (internal/stage).
package queue

import "github.com/simianhq/simian/internal/impair"

// HelperName is argv[0] of a helper.
const HelperName = "simian-queue"

// The kernel closes the files of a process that was killed in the order of
// their numbers, but what that brings about it does in the opposite order (a
// list of task works, kernel/task_work.c, which takes what came last first).
// So the socket that owns the table has the highest number: the rules go
// before the devices, which take 20 ms each. (Measured: traffic flows 1 to 2 ms
// after the kill, and 30 to 60 ms after it where that socket has the lowest.)

// Order is what a helper is told first. Files come with it, and are named by
// their place among them, from 0 on.
type Order struct {
	Impair  impair.Config `json:"impair"`
	Seed    uint64        `json:"seed"`    // of what is random
	Limit   int           `json:"limit"`   // bytes of memory for packets; one of up to 2 KiB takes 2 KiB
	Network uint64        `json:"network"` // inode of the target's network namespace: the helper ends when nobody is in it
	NFT     int           `json:"nft"`     // the netlink socket that is to own the table, the last file, so that it goes first
	Lanes   []Lane        `json:"lanes"`
}

// Lane is one link and one direction.
type Lane struct {
	Link    string `json:"link"`
	Ingress bool   `json:"ingress"`
	Index   int    `json:"index"`  // of the link
	Merge   bool   `json:"merge"`  // datagrams may be sent as one that is yet to be cut
	Header  int    `json:"header"` // bytes of the link's own header, 14 on Ethernet; 0 where it has none
	TAP     int    `json:"tap"`    // a file
	Stamp   int    `json:"stamp"`  // a file to map: when packets came into the TAP, see lane.came; -1 where there is none
	Out     int    `json:"out"`    // the packet socket, a file; -1 where packets go back into the TAP
}

// Stats is what became of the packets of one lane.
type Stats struct {
	Link    string `json:"link"`
	Ingress bool   `json:"ingress"`

	Packets    int64 `json:"packets"` // that came; what the kernel has yet to cut into segments counts once
	Bytes      int64 `json:"bytes"`   // in them, the link's header included
	Sent       int64 `json:"sent"`
	SentBytes  int64 `json:"sentBytes"`
	Held       int64 `json:"held"` // that wait now
	Lost       int64 `json:"lost"` // as was asked for
	Duplicated int64 `json:"duplicated"`
	Corrupted  int64 `json:"corrupted"`
	Reordered  int64 `json:"reordered"` // went after one that had come later
	Overflow   int64 `json:"overflow"`  // dropped because the memory was used up
	Refused    int64 `json:"refused"`   // not taken by the link: it is down, or its own queue is full
	LateMax    int64 `json:"lateMax"`   // nanoseconds: the most that one went after it was due
	LateSum    int64 `json:"lateSum"`   // nanoseconds, of all sent
}
