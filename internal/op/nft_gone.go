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

// NftGone takes a Table back, or sees that the kernel did so when the process
// that held it died.
type NftGone struct {
	Net      experiment.Namespace `json:"net"`
	Families []string             `json:"families"` // inet, netdev
	Name     string               `json:"name"`

	host *Host
}

// String implements experiment.Op.
func (g *NftGone) String() string {
	return fmt.Sprintf("remove nft table %s %s", strings.Join(g.Families, " and "), g.Name)
}

// Handles implements experiment.Handled.
func (g *NftGone) Handles() []string { return []string{tableHandle(g.Net, g.Name)} }

// Apply implements experiment.Op. What this process holds it gives up even
// where the namespace can't be found: it is the socket that keeps it.
func (g *NftGone) Apply(context.Context) error {
	var closed error
	h, held := g.host.drop(g.Handles()[0]).(*heldTable)
	if held {
		closed = errors.Join(h.send(g.deletions(g.Families)), h.Close())
	}
	if errors.Is(closed, syscall.ENOENT) { // somebody was faster
		closed = nil
	}
	return errors.Join(closed, g.sweep(held))
}

// sweep removes what nobody owns. What somebody owns was made since, where this
// process has just closed its own.
func (g *NftGone) sweep(closed bool) error {
	return g.inNetwork(func(fd int, there []nftTable) error {
		var families []string
		for _, t := range there {
			switch {
			case t.owner != 0 && closed:
				continue
			case t.owner != 0:
				return fmt.Errorf("remove nft table %s: %s: %w", g.Name, t, experiment.ErrBusy)
			}
			families = append(families, familyName(t.family))
		}
		if len(families) == 0 {
			return nil
		}
		messages := g.deletions(families)
		if err := explain(sendNft(fd, nftBatch(messages)), messages); !errors.Is(err, syscall.ENOENT) {
			return err
		}
		return nil
	})
}

// deletions removes the table with all that is in it.
func (g *NftGone) deletions(families []string) []nftMessage {
	var messages []nftMessage
	for _, f := range families {
		m := nftMessage{kind: unix.NFT_MSG_DELTABLE, family: unix.NFPROTO_INET, text: "delete table " + g.Name}
		if f == familyName(unix.NFPROTO_NETDEV) {
			m.family = unix.NFPROTO_NETDEV
		}
		m.body.text(unix.NFTA_TABLE_NAME, g.Name)
		messages = append(messages, m)
	}
	return messages
}

// Verify implements experiment.Verifier.
func (g *NftGone) Verify(context.Context) (e experiment.Evidence, err error) {
	err = g.inNetwork(func(_ int, there []nftTable) error {
		if len(there) == 0 {
			e = experiment.Evidence{InForce: true, What: "nft table gone"}
			return nil
		}
		e = experiment.Evidence{What: there[0].String(), Hint: "the process that holds it lives still"}
		return nil
	})
	return e, err
}

// inNetwork calls fn in the namespace with a socket, and the tables of this
// name that are there.
func (g *NftGone) inNetwork(fn func(fd int, there []nftTable) error) error {
	return g.host.FS.InNetwork(g.Net, func() error {
		fd, err := openNft()
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		there, err := findTables(fd, g.Name)
		if err != nil {
			return err
		}
		there = slices.DeleteFunc(there, func(t nftTable) bool { return !slices.Contains(g.Families, familyName(t.family)) })
		return fn(fd, there)
	})
}

// nftTable is a table that is there.
type nftTable struct {
	family uint8
	name   string
	owner  uint32 // the netlink port of the socket that owns it; 0 is none
}

// String tells of whom it is. A socket's port is its process's id where that
// was free (netlink(7)).
func (t nftTable) String() string {
	s := fmt.Sprintf("nft table %s %s is there", familyName(t.family), t.name)
	if t.owner != 0 {
		s += fmt.Sprintf(", owned by the netlink socket with port %d (/proc/net/netlink)", t.owner)
	}
	return s
}

// findTables lists the tables of the families inet and netdev with this name;
// "" is any name.
func findTables(fd int, name string) ([]nftTable, error) {
	objects, err := dumpNft(fd, unix.NFT_MSG_GETTABLE, unix.AF_UNSPEC, nil)
	if err != nil {
		return nil, fmt.Errorf("list nft tables: %w", err)
	}
	var tables []nftTable
	for _, o := range objects {
		ours := o.family == unix.NFPROTO_INET || o.family == unix.NFPROTO_NETDEV
		if found := o.text(unix.NFTA_TABLE_NAME); ours && (name == "" || found == name) {
			tables = append(tables, nftTable{o.family, found, uint32(o.number(nftaOwner))})
		}
	}
	return tables, nil
}
