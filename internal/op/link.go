package op

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
)

// ifbQueueLen is the txqueuelen of a link of ours, in packets: ifb stops its
// queue there, and netem holds what does not go on.
const ifbQueueLen = 10_000

// Link makes an ifb (Documentation: tc-mirred(8)), a link through which packets
// that come in can be sent once more, to be treated as if they went out; or it
// removes it. Its name and index are chosen before it is made, so that other
// ops can be planned for it.
type Link struct {
	filter.Link
	Net    experiment.Namespace `json:"net"`
	Alias  string               `json:"alias"` // "simian run abcd23"
	Remove bool                 `json:"remove,omitzero"`

	host *Host
}

// PlanLink returns the step that makes the n-th link of a run, n below 64. Its
// Do is a *Link, which says what it will be called.
func PlanLink(h *Host, ns experiment.Namespace, run experiment.RunID, n int) (experiment.Step, error) {
	do := &Link{Net: ns, Alias: "simian run " + string(run), host: h}
	err := do.inside(func(c *tcConn) (err error) {
		do.Link, err = freeLink(c, run, n)
		return err
	})
	undo := *do
	undo.Remove = true
	return experiment.Step{Do: do, Undo: &undo}, err
}

// firstOwnIndex is the first index of links that Simian makes.
const firstOwnIndex = 1 << 20

// freeLink finds a name and an index that no link has. The index is far above
// those that the kernel gives out, which counts up from 1.
func freeLink(c *tcConn, run experiment.RunID, n int) (filter.Link, error) {
	h := fnv.New32a()
	h.Write([]byte(run)) // never fails
	const span, tries, stride = 1 << 20, 100, 64
	for try := range tries {
		number := n + try*stride // others of this run are planned beside it
		l := filter.Link{
			Name:  fmt.Sprintf("sm%s%d", run, number),
			Index: firstOwnIndex + int(h.Sum32()+uint32(number))%span,
		}
		_, byIndex := c.linkAt(l.Index)
		_, byName := c.linkNamed(l.Name)
		if errors.Is(byIndex, experiment.ErrGone) && errors.Is(byName, experiment.ErrGone) {
			return l, nil
		}
		if err := notGone(errors.Join(byIndex, byName)); err != nil {
			return l, fmt.Errorf("look for a free link: %w", err)
		}
	}
	return filter.Link{}, fmt.Errorf("look for a free link: %d are taken: %w", tries, experiment.ErrBusy)
}

func notGone(err error) error {
	if errors.Is(err, experiment.ErrGone) {
		return nil
	}
	return err
}

// String implements experiment.Op.
func (l *Link) String() string {
	if l.Remove {
		return fmt.Sprintf("remove link %s (ifb)", l.Name)
	}
	return fmt.Sprintf("make link %s (ifb)", l.Name)
}

// Backend implements experiment.Backed.
func (l *Link) Backend() string { return "netem" }

// Handles implements experiment.Handled. The link is of this run's own name.
func (l *Link) Handles() []string {
	return []string{fmt.Sprintf("%s:link:%s", l.Net.Handle(), l.Name)}
}

func (l *Link) inside(fn func(c *tcConn) error) error { return insideNet(l.host, l.Net, fn) }

// Apply implements experiment.Op.
func (l *Link) Apply(context.Context) error {
	return l.inside(func(c *tcConn) error {
		present, err := l.present(c)
		if l.Remove {
			if err != nil || !present {
				return err
			}
			return l.remove(c)
		}
		if err != nil {
			return err
		}
		if !present {
			if err := c.addIfb(l.Name, l.Index); err != nil {
				return notHere("link "+l.Name+" (ifb)", err)
			}
		}
		if err := l.ready(c); err != nil {
			return errors.Join(err, l.remove(c))
		}
		return nil
	})
}

// present tells whether the link is there. What has its name or index, and is
// not ours, is an ErrBusy; to the undo it is none.
func (l *Link) present(c *tcConn) (bool, error) {
	found, err := c.linkAt(l.Index)
	if errors.Is(err, experiment.ErrGone) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at link %s: %w", l.Name, err)
	}
	a := found.Attrs()
	// One that was killed before it was given its alias has none yet.
	if found.Type() == "ifb" && a.Name == l.Name && (a.Alias == l.Alias || a.Alias == "") {
		return true, nil
	}
	if l.Remove {
		return false, nil
	}
	return false, fmt.Errorf("link %d is %s (%s, alias %q), not this run's: %w", l.Index, a.Name, found.Type(), a.Alias, experiment.ErrBusy)
}

func (l *Link) remove(c *tcConn) error {
	_, err := c.request(unix.RTM_DELLINK, unix.NLM_F_ACK, 0, ifinfo(l.Index, 0))
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove link %s: %w", l.Name, err)
	}
	return nil
}

// ready names the link as the run's, keeps IPv6 from giving it an address, and
// sets it up, in this order.
func (l *Link) ready(c *tcConn) error {
	body := appendAttr(ifinfo(l.Index, 0), unix.IFLA_IFALIAS, []byte(l.Alias))
	body = appendUint32(body, unix.IFLA_TXQLEN, ifbQueueLen)
	if _, err := c.request(unix.RTM_SETLINK, unix.NLM_F_ACK, 0, body); err != nil {
		return fmt.Errorf("name link %s: %w", l.Name, err)
	}
	if err := c.noIPv6(l.Index); err != nil {
		return fmt.Errorf("keep IPv6 from link %s: %w", l.Name, err)
	}
	// Where it is there and can be written, it does more: no routes, no groups.
	_ = os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", l.Name, "disable_ipv6"), []byte("1"), 0)
	if _, err := c.request(unix.RTM_SETLINK, unix.NLM_F_ACK, 0, ifinfo(l.Index, unix.IFF_UP)); err != nil {
		return fmt.Errorf("set link %s up: %w", l.Name, err)
	}
	return nil
}

// noIPv6 makes IPv6 generate no address for a link (IN6_ADDR_GEN_MODE_NONE). A
// kernel without IPv6 has none to generate.
func (c *tcConn) noIPv6(index int) error {
	const afInet6AddrGenMode, none = 8, 1
	mode := appendAttr(nil, afInet6AddrGenMode, []byte{none})
	body := appendAttr(ifinfo(index, 0), unix.IFLA_AF_SPEC|nested, appendAttr(nil, unix.AF_INET6|nested, mode))
	_, err := c.request(unix.RTM_SETLINK, unix.NLM_F_ACK, 0, body)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// addIfb makes an ifb of this name and index.
func (c *tcConn) addIfb(name string, index int) error {
	const kind = 1 // IFLA_INFO_KIND
	body := appendAttr(ifinfo(index, 0), unix.IFLA_IFNAME, append([]byte(name), 0))
	body = appendUint32(body, unix.IFLA_TXQLEN, ifbQueueLen)
	body = appendAttr(body, unix.IFLA_LINKINFO|nested, appendAttr(nil, kind, []byte("ifb")))
	_, err := c.request(unix.RTM_NEWLINK, createNew|unix.NLM_F_ACK, 0, body)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) {
		err = errors.Join(experiment.ErrBusy, err)
	}
	return err
}

// ifinfo is a struct ifinfomsg that sets flags.
func ifinfo(index int, flags uint32) []byte {
	b := make([]byte, 4, 64) // family, padding, type
	b = native.AppendUint32(b, uint32(index))
	b = native.AppendUint32(b, flags)
	return native.AppendUint32(b, flags) // which of them to change
}

// Verify implements experiment.Verifier.
func (l *Link) Verify(context.Context) (e experiment.Evidence, err error) {
	err = l.inside(func(c *tcConn) error {
		present, err := l.present(c)
		if err != nil && !errors.Is(err, experiment.ErrBusy) {
			return err
		}
		if l.Remove || !present {
			e = experiment.Evidence{InForce: l.Remove != present, What: fmt.Sprintf("link %s is there: %v", l.Name, present)}
			return nil
		}
		a, err := c.attrsOf(l.Index)
		if err != nil {
			return err
		}
		e = experiment.Evidence{InForce: a.RawFlags&unix.IFF_UP != 0, What: fmt.Sprintf("link %s is there, up: %v", l.Name, a.RawFlags&unix.IFF_UP != 0)}
		return nil
	})
	return e, err
}
