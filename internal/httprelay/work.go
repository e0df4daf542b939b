package httprelay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/simianhq/simian/internal/helper"
)

// HelperName is argv[0] of a helper that is a relay.
const HelperName = "simian-http"

// drainTime is how long requests under way may take when the relay ends.
const drainTime = 150 * time.Millisecond

// Order is what a relay is told. It runs in the target's network namespace,
// and its files were made there: a pidfd of the target, the socket that listens,
// and the netlink socket that owns the table, the last, so that the rules go
// first (see queue.Order).
type Order struct {
	Rule Rule `json:"rule"`
}

type work struct {
	relay  *Relay
	listen *net.TCPListener
	nft    int
}

// Begin implements helper.Begin. Args are an Order.
func Begin(args json.RawMessage, files []int) (helper.Work, error) {
	var o Order
	if err := json.Unmarshal(args, &o); err != nil {
		return nil, err
	}
	if len(files) != 3 {
		return nil, errors.New("an order with other files than it should have")
	}
	r, err := New(&o.Rule, OriginalDst, dial)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(files[1]), "http")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("serve HTTP: %w", err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("serve HTTP: a %s socket", l.Addr().Network())
	}
	helper.EndWith(files[0])
	go func() { _ = r.Serve(tcp) }()
	return &work{r, tcp, files[2]}, nil
}

// Report implements helper.Work: it is a helper.Report.
func (w *work) Report() (any, error) { return w.relay.Report(), nil }

// dial connects to the server from inside.
func dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", to.String())
}

// End implements helper.Work. What was redirected is translated for as long as
// the table is there, so it goes last.
func (w *work) End() {
	w.relay.End(drainTime)
	_ = syscall.Close(w.nft)
	_ = w.listen.Close()
}
