package httprelay

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
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
// and a netlink socket that is to own the table, the last, so that the rules go
// first (see queue.Order).
type Order struct {
	Rule Rule `json:"rule"`
	Mark int  `json:"mark"` // of what it sends itself
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
	r, err := New(&o.Rule, OriginalDst, Mark(o.Mark))
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

// Call implements helper.Caller: body is netlink messages for the socket that
// owns the table, the answer is the kernel's.
func (w *work) Call(body []byte) ([]byte, error) { return helper.Exchange(w.nft, body) }

// End implements helper.Work. Requests under way are answered first: what was
// redirected is translated for as long as the table is there.
func (w *work) End() {
	_ = w.listen.Close()
	w.relay.End(drainTime)
	_ = syscall.Close(w.nft)
}
