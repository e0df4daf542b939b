package op

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/dnsrelay"
)

// DNS makes lookups of a target fail: it starts a relay (internal/dnsrelay) in
// the target's network namespace, to which an nft table redirects what goes to
// port 53, or ends it.
//
// The relay alone holds the sockets, and the one that owns the table: when it
// ends, however it does, lookups go to the resolver again.
type DNS struct {
	Net     experiment.Namespace `json:"net"`
	Run     experiment.RunID     `json:"run"`
	Target  experiment.ProcessID `json:"target"` // the relay ends with this process
	Rule    dnsrelay.Rule        `json:"rule"`
	Six     bool                 `json:"six,omitzero"`    // lookups that go by IPv6, too: there is ::1 to redirect them to
	Remarks []string             `json:"notes,omitempty"` // what a user should know
	Present bool                 `json:"present"`

	host *Host
}

// NewDNS returns d as an op that starts the relay. Its undo is Gone.
func NewDNS(h *Host, d DNS) *DNS {
	d.Present, d.host = true, h
	return &d
}

// Gone returns the op that ends the relay that d starts.
func (d *DNS) Gone() *DNS {
	gone := *d
	gone.Present, gone.Remarks = false, nil
	return &gone
}

// Table is the name of its nft table.
func (d *DNS) Table() string { return fmt.Sprintf("simian_%s_dns", d.Run) }

// Cgroup is the name of the relay's cgroup.
func (d *DNS) Cgroup() string { return fmt.Sprintf("simian-%s-%d-dns", d.Run, d.Net.Inode) }

// mark is on packets of the relay's. That of a run is unlikely to be used by
// anybody else.
func (d *DNS) mark() uint32 {
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, d.Run, d.Net.Inode)
	return h.Sum32()&^(1<<31) | 1
}

// String implements experiment.Op.
func (d *DNS) String() string {
	where := fmt.Sprintf("helper dns in netns %d (nft table %s, cgroup %s)", d.Net.Inode, d.Table(), d.Cgroup())
	if !d.Present {
		return "end " + where
	}
	return fmt.Sprintf("%s: start %s", ruleText(&d.Rule), where)
}

// ruleText says what becomes of which lookups.
func ruleText(r *dnsrelay.Rule) string {
	text := doneTo(r) + " " + orAll(r.Names)
	if len(r.Exclude) > 0 {
		text += " but " + orAll(r.Exclude)
	}
	var kinds []string
	for _, k := range r.Types {
		kinds = append(kinds, TypeName(k))
	}
	if kinds != nil {
		text += " (" + strings.Join(kinds, ", ") + ")"
	}
	if r.Percent > 0 {
		text += fmt.Sprintf(", %s%% of them", strconv.FormatFloat(r.Percent, 'g', -1, 64))
	}
	return text
}

// TypeName is the name of a type of records: A.
func TypeName(kind uint16) string {
	return strings.TrimPrefix(dnsmessage.Type(kind).String(), "Type")
}

func orAll(patterns []string) string {
	if len(patterns) == 0 {
		return "all names"
	}
	return short(len(patterns), func(i int) string { return patterns[i] }, ", ")
}

// doneTo says what becomes of a lookup.
func doneTo(r *dnsrelay.Rule) string {
	switch r.How {
	case dnsrelay.Drop:
		return "drop lookups of"
	case dnsrelay.Slow:
		return fmt.Sprintf("delay by %s lookups of", r.Delay)
	case dnsrelay.Address:
		var list []string
		for _, a := range []netip.Addr{r.Four, r.Six} {
			if a.IsValid() {
				list = append(list, a.String())
			}
		}
		return "answer " + strings.Join(list, " and ") + " to lookups of"
	}
	return "answer " + codeOf(r.How) + " to lookups of"
}

// Notes implements experiment.Noted.
func (d *DNS) Notes() []string { return d.Remarks }

// Backend implements experiment.Backed.
func (d *DNS) Backend() string { return "relay" }

// Handles implements experiment.Handled: a namespace has one relay at a time.
func (d *DNS) Handles() []string { return []string{d.Net.Handle() + ":dns"} }

func (d *DNS) redirect() redirect {
	return redirect{table: d.Table(), mark: d.mark(), port: dnsrelay.Port}
}

func (d *DNS) gone() *NftGone {
	return &NftGone{Net: d.Net, Families: []string{"inet"}, Name: d.Table(), host: d.host}
}

// Apply implements experiment.Op.
func (d *DNS) Apply(ctx context.Context) error {
	if !d.Present {
		return d.end(ctx)
	}
	if held := d.held(); held != nil && held.alive() {
		return nil
	}
	if !d.host.FS.Alive(d.Target) {
		return fmt.Errorf("start the relay for %s: %w", d.Target, experiment.ErrGone)
	}
	return d.start(ctx)
}

// Follow implements experiment.Follower: should the relay die, the kernel
// takes the table back; what it still remembers of flows is forgotten here.
func (d *DNS) Follow(ctx context.Context) error {
	held := d.held()
	if held == nil {
		<-ctx.Done()
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-held.exited:
	}
	if ctx.Err() != nil { // it was ended
		return nil
	}
	if !d.host.FS.Alive(d.Target) {
		return fmt.Errorf("the relay ended with %s: %w", d.Target, experiment.ErrGone)
	}
	return d.forget(ours) // Verify says that it has ended
}
