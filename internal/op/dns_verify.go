package op

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/dnsrelay"
)

// held returns the relay where this process has started it.
func (d *DNS) held() *heldHelper {
	h, _ := d.host.holds(d.Cgroup()).(*heldHelper)
	return h
}

// end ends the relay: by its socket where this process holds that, so that it
// can still answer what it has, else by killing what is in its cgroup.
func (d *DNS) end(ctx context.Context) error {
	if held, _ := d.host.drop(d.Cgroup()).(*heldHelper); held != nil {
		held.end()
	}
	_, err := d.process().clear(ctx, d.host.FS)
	if err == nil {
		err = d.gone().Apply(ctx)
	}
	if err == nil {
		err = d.forget(ours)
	}
	return err
}

// Verify implements experiment.Verifier: the relay answers, and the rules are
// there. Felt says whether a lookup matched so far.
func (d *DNS) Verify(ctx context.Context) (experiment.Evidence, error) {
	if !d.Present {
		return d.verifyGone(ctx)
	}
	var s dnsrelay.Stats
	if e, err := d.held().report(d.host.FS, d.Target, &s); err != nil || !e.InForce {
		return e, err
	}
	missing, err := d.missing()
	if err != nil {
		return experiment.Evidence{}, err
	}
	if missing != "" {
		return experiment.Evidence{What: missing, Hint: "somebody removed it"}, nil
	}
	return d.evidence(&s), nil
}

// missing says what of the table is not there.
func (d *DNS) missing() (missing string, err error) {
	err = d.host.FS.InNetwork(d.Net, func() error {
		fd, err := openNft()
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		r := d.redirect()
		r.to = make([]redirectTo, 2)
		if d.Six {
			r.to = make([]redirectTo, 4)
		}
		missing, err = r.missing(fd)
		return err
	})
	return missing, err
}

func (d *DNS) verifyGone(ctx context.Context) (experiment.Evidence, error) {
	e, err := d.process().verifyGone(d.host.FS)
	if err != nil || !e.InForce {
		return e, err
	}
	if e, err = d.gone().Verify(ctx); e.InForce {
		e.What = "relay and nft table gone"
	}
	return e, err
}

// evidence tells what became of lookups.
func (d *DNS) evidence(s *dnsrelay.Stats) experiment.Evidence {
	e := experiment.Evidence{InForce: true, Felt: experiment.FeltNothing}
	text := fmt.Sprintf("%s lookups", count64(s.Seen))
	if s.TCP > 0 {
		text += fmt.Sprintf(" (%s by TCP)", count64(s.TCP))
	}
	text += fmt.Sprintf(": %s matched, %s %s", count64(s.Matched), count64(s.Struck), struckText(&d.Rule))
	text += fmt.Sprintf("; %s passed on, %s of them answered", count64(s.Passed), count64(s.Answered))
	for _, each := range []struct {
		n    int64
		word string
	}{
		{s.Silent, "without an answer"},
		{s.Failed, "that no server was there for"},
		{s.Waiting, "under way"},
		{s.Unreadable, "passed on unread"},
		{s.Overflow, "lost because too many were under way"},
	} {
		if each.n > 0 {
			text += fmt.Sprintf(", %s %s", count64(each.n), each.word)
		}
	}
	e.What = text
	switch {
	case s.Struck > 0:
		e.Felt = experiment.FeltYes
	case s.Matched > 0:
		e.Felt, e.Hint = experiment.FeltNo, "too few lookups matched for one of them to be struck"
	default:
		e.Hint = d.hint(s)
	}
	return e
}

func count64(n int64) string { return thousands(uint64(n)) }

// struckText says what was done to lookups.
func struckText(r *dnsrelay.Rule) string {
	switch r.How {
	case dnsrelay.Drop:
		return "dropped"
	case dnsrelay.Slow:
		return fmt.Sprintf("delayed by %s", r.Delay)
	case dnsrelay.Address:
		return "answered with a wrong address"
	}
	return "answered " + codeOf(r.How)
}

// codeOf is what resolvers call an answer.
func codeOf(how string) string {
	if how == dnsrelay.Refuse {
		return "REFUSED"
	}
	return strings.ToUpper(how)
}

// hint tells, where nothing matched, what was asked for instead.
func (d *DNS) hint(s *dnsrelay.Stats) string {
	if s.Seen == 0 {
		return "the target asked no resolver on port 53: it may have the answer already, or ask in another way (a cache, hosts(5), DNS over TLS or HTTPS)"
	}
	names := make([]string, len(s.Others))
	for i, o := range s.Others {
		names[i] = fmt.Sprintf("%s (%s)", o.Name, count64(o.Times))
		if o.Name == "" {
			names[i] = fmt.Sprintf(". (%s)", count64(o.Times))
		}
	}
	return "nothing matched: it asked for " + strings.Join(names, ", ")
}

// CheckRedirect tries in an empty network namespace of its own what d needs of the
// kernel, and gives experiment.ErrUnsupported with the kernel's reason where
// it is not there.
func CheckRedirect(h *Host) error {
	return h.can("redirect with nftables (CONFIG_NFT_REDIR, CONFIG_NF_CT_NETLINK, Linux 5.12)", func(*tcConn) error { return tryRedirectTable() })
}

func tryRedirectTable() error {
	r := redirect{table: "simian_try", mark: 1, port: dnsrelay.Port, to: []redirectTo{{false, unix.IPPROTO_UDP, 1}, {true, unix.IPPROTO_TCP, 1}}}
	fd, err := openNft()
	if err != nil {
		return err
	}
	defer func() { go syscall.Close(fd) }() // the kernel takes some milliseconds to remove a table
	messages := r.compile()
	if err := explain(sendNft(fd, nftBatch(messages)), messages); err != nil {
		return err
	}
	track, err := openNft()
	if err != nil {
		return err
	}
	defer syscall.Close(track)
	err = dnsrelay.NewConntrack(track).Forget(func(dnsrelay.Entry) bool { return false })
	if errors.Is(err, unix.EINVAL) {
		err = errors.Join(err, unix.EOPNOTSUPP)
	}
	return err
}
