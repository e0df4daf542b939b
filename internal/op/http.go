package op

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/dnsrelay"
	"github.com/simianhq/simian/internal/helper"
	"github.com/simianhq/simian/internal/httprelay"
	"github.com/simianhq/simian/internal/proc"
)

// HTTP makes some requests to a target fail: it starts a relay
// (internal/httprelay) in the target's network namespace, to which an nft table
// redirects connections that come in for a port, or ends it.
//
// The relay alone holds its socket, and the one that owns the table: when it
// ends, however it does, connections go to the server again.
type HTTP struct {
	Net     experiment.Namespace `json:"net"`
	Run     experiment.RunID     `json:"run"`
	Target  experiment.ProcessID `json:"target"` // the relay ends with this process
	Ports   []uint16             `json:"ports"`
	Rule    httprelay.Rule       `json:"rule"`
	Keep    bool                 `json:"keep,omitzero"` // connections that stand already go on past the relay; else they are reset
	Words   string               `json:"words"`         // which requests, and what becomes of them
	Present bool                 `json:"present"`

	host *Host
}

// NewHTTP returns h as an op that starts the relay. Its undo is Gone.
func NewHTTP(host *Host, h HTTP) *HTTP {
	h.Present, h.host = true, host
	return &h
}

// Gone returns the op that ends the relay that h starts.
func (h *HTTP) Gone() *HTTP {
	gone := *h
	gone.Present = false
	return &gone
}

func (h *HTTP) ports(sep string) string {
	words := make([]string, 0, len(h.Ports))
	for _, p := range h.Ports {
		words = append(words, fmt.Sprint(p))
	}
	return strings.Join(words, sep)
}

// Table is the name of its nft table.
func (h *HTTP) Table() string { return fmt.Sprintf("simian_%s_http_%d", h.Run, h.Ports[0]) }

// Cgroup is the name of the relay's cgroup.
func (h *HTTP) Cgroup() string {
	return fmt.Sprintf("simian-%s-%d-http-%d", h.Run, h.Net.Inode, h.Ports[0])
}

// String implements experiment.Op.
func (h *HTTP) String() string {
	where := fmt.Sprintf("helper http in netns %d for port %s (nft table %s, cgroup %s)", h.Net.Inode, h.ports(", "), h.Table(), h.Cgroup())
	if !h.Present {
		return "end " + where
	}
	return fmt.Sprintf("%s: start %s", h.Words, where)
}

// Backend implements experiment.Backed.
func (h *HTTP) Backend() string { return "relay" }

// Handles implements experiment.Handled: a port has one relay at a time.
func (h *HTTP) Handles() []string {
	var list []string
	for _, p := range h.Ports {
		list = append(list, fmt.Sprintf("%s:http:%d", h.Net.Handle(), p))
	}
	return list
}

// process is the relay as it is to be started: it reads what anybody sends, and
// may do nothing.
func (h *HTTP) process() helperProcess {
	return helperProcess{program: httprelay.HelperName, cgroup: h.Cgroup(), nobody: true}
}

func (h *HTTP) gone() *NftGone {
	return &NftGone{Net: h.Net, Families: []string{"inet"}, Name: h.Table(), host: h.host}
}

// Apply implements experiment.Op.
func (h *HTTP) Apply(ctx context.Context) error {
	if !h.Present {
		return h.end(ctx)
	}
	if held := h.held(); held != nil && held.alive() {
		return nil
	}
	if !h.host.FS.Alive(h.Target) {
		return fmt.Errorf("start the relay for %s: %w", h.Target, experiment.ErrGone)
	}
	return h.start(ctx)
}

// held returns the relay where this process has started it.
func (h *HTTP) held() *heldHelper {
	held, _ := h.host.holds(h.Cgroup()).(*heldHelper)
	return held
}

// start starts the relay, and redirects connections to it then. Where anything
// fails, nothing is left.
func (h *HTTP) start(ctx context.Context) error {
	if old := h.host.drop(h.Cgroup()); old != nil { // it has died
		_ = old.Close()
	}
	held, err := h.launch()
	if err == nil {
		h.host.hold(h.Cgroup(), held)
		if !h.Keep {
			err = h.forget(func(e dnsrelay.Entry) bool { return !isRelayed(e) })
		}
	}
	if err == nil {
		return nil
	}
	if bad := h.end(ctx); !errors.Is(bad, experiment.ErrGone) {
		err = errors.Join(err, bad)
	}
	return err
}

// launch starts the relay in the target's network namespace, and makes the
// table once it listens.
func (h *HTTP) launch() (held *heldHelper, err error) {
	listen, rules := -1, -1
	defer func() {
		_ = unix.Close(listen)
		_ = unix.Close(rules) // the relay has it, too
	}()
	var port uint16
	var four bool
	err = h.host.FS.InNetwork(h.Net, func() (err error) {
		if listen, port, four, err = listenAny(); err != nil {
			return err
		}
		if rules, err = openNft(); err != nil {
			return err
		}
		held, err = h.process().launch(h.host.FS)
		return err
	})
	if err == nil {
		err = h.begin(held, listen, rules)
	}
	if err == nil {
		messages := h.compile(port, four)
		if err = sendNft(rules, nftBatch(messages)); err != nil {
			err = fmt.Errorf("make nft table %s: %w", h.Table(), explain(err, messages))
		}
	}
	if err != nil && held != nil {
		held.end()
	}
	return held, err
}

// begin gives the relay its order and its files.
func (h *HTTP) begin(held *heldHelper, listen, rules int) error {
	pidfd, err := proc.OpenPidfd(h.Target)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	args, err := json.Marshal(httprelay.Order{Rule: h.Rule})
	if err != nil {
		return err
	}
	return held.begin(args, []int{pidfd, listen, rules})
}

// listenAny listens on a free port of all addresses in this thread's network
// namespace: a redirect from elsewhere goes to the address of the link that it
// came by. Four says that there is IPv4 only.
func listenAny() (fd int, port uint16, four bool, err error) {
	var any unix.Sockaddr = &unix.SockaddrInet6{}
	fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
		err = unix.Bind(fd, any)
	}
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) { // IPv6 is switched off
		_ = unix.Close(fd)
		four, any = true, &unix.SockaddrInet4{}
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
			err = unix.Bind(fd, any)
		}
	}
	if err == nil {
		err = unix.Listen(fd, unix.SOMAXCONN)
	}
	if err == nil {
		port, err = portOf(fd)
	}
	if err != nil {
		err = fmt.Errorf("listen for the relay: %w", err)
	}
	return fd, port, four, err
}

// compile returns the transaction that makes the table: what comes in for one
// of the ports goes to the relay's. What the target sends to itself by lo does
// not, and so neither does what the relay passes on.
func (h *HTTP) compile(relay uint16, four bool) []nftMessage {
	c := &nftCompiler{t: &Table{Name: h.Table()}, known: map[string]bool{}}
	w := nftWay{name: "prerouting", family: unix.NFPROTO_INET, hook: unix.NF_INET_PRE_ROUTING, prio: redirectPriority, kind: "nat"}
	c.table(w)
	c.baseChain(w, w.name, "")
	const lo = 1 // in every network namespace
	c.rule(w, w.name, metaIs(unix.NFT_META_IIF, "iif lo", binary.NativeEndian.AppendUint32(nil, lo)...), accept())
	for _, p := range h.Ports {
		c.rule(w, w.name, h.phrases(p, relay, four)...)
	}
	return append(append(c.tables, c.chains...), c.rules...)
}

func (h *HTTP) phrases(port, relay uint16, four bool) []phrase {
	th := uint32(unix.NFT_PAYLOAD_TRANSPORT_HEADER)
	var list []phrase
	if four {
		list = append(list, metaIs(unix.NFT_META_NFPROTO, "meta nfproto ipv4", unix.NFPROTO_IPV4))
	}
	list = append(list, protocolIs(unix.IPPROTO_TCP),
		bytesAre(fmt.Sprintf("th dport %d", port), th, 2, binary.BigEndian.AppendUint16(nil, port)...))
	if h.Keep { // else the first packet of one that stands goes to the relay, whose kernel resets it
		list = append(list, tcpSyn())
	}
	return append(list, redirectInto(relay))
}

// end ends the relay: by its socket where this process holds that, so that it
// can still answer what it has, else by killing what is in its cgroup.
func (h *HTTP) end(ctx context.Context) error {
	if held, _ := h.host.drop(h.Cgroup()).(*heldHelper); held != nil {
		held.end()
	}
	_, err := h.process().clear(ctx, h.host.FS)
	if err == nil {
		err = h.gone().Apply(ctx)
	}
	for end := time.Now().Add(releaseTime); errors.Is(err, experiment.ErrBusy) && time.Now().Before(end) && ctx.Err() == nil; {
		pause()
		err = h.gone().Apply(ctx)
	}
	if err == nil {
		err = h.forget(isRelayed)
	}
	return err
}

// releaseTime is how long the kernel may take to let go of a table whose owner
// has just ended.
const releaseTime = 2 * time.Second

// isRelayed tells whether a connection was redirected: answers to it come from
// another port than it was sent to.
func isRelayed(e dnsrelay.Entry) bool { return e.Reply.From != e.Orig.To }

// forget removes connections to the ports from what conntrack knows in the
// target's network namespace.
func (h *HTTP) forget(chosen func(dnsrelay.Entry) bool) error {
	return forgetFlows(h.host.FS, h.Net, func(e dnsrelay.Entry) bool {
		for _, p := range h.Ports {
			if e.Orig.To.Port() == p && e.Orig.Protocol == unix.IPPROTO_TCP {
				return chosen(e)
			}
		}
		return false
	})
}

// Verify implements experiment.Verifier: the relay answers, and the rules are
// there. Felt says whether a request was struck so far.
func (h *HTTP) Verify(ctx context.Context) (experiment.Evidence, error) {
	if !h.Present {
		return h.verifyGone(ctx)
	}
	var r helper.Report
	if e, err := h.held().report(h.host.FS, h.Target, &r); err != nil || !e.InForce {
		return e, err
	}
	missing, err := h.missing()
	if err != nil {
		return experiment.Evidence{}, err
	}
	if missing != "" {
		return experiment.Evidence{What: missing, Hint: "somebody removed it"}, nil
	}
	return evidenceOf(r), nil
}

// missing says what of the table is not there.
func (h *HTTP) missing() (missing string, err error) {
	err = h.host.FS.InNetwork(h.Net, func() error {
		fd, err := openNft()
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		missing, err = missingRules(fd, h.Table(), 1+len(h.Ports))
		return err
	})
	return missing, err
}

func (h *HTTP) verifyGone(ctx context.Context) (experiment.Evidence, error) {
	e, err := h.process().verifyGone(h.host.FS)
	if err != nil || !e.InForce {
		return e, err
	}
	if e, err = h.gone().Verify(ctx); e.InForce {
		e.What = "relay and nft table gone"
	}
	return e, err
}
