package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	toxi "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// toxic is Toxiproxy in the target's namespace: a process that connections go
// through. It knows TCP only, delays and no loss of packets.
type toxic struct{ *lab }

func (*toxic) name() string { return toxiproxy }

// ports of the far end that Toxiproxy stands before, each at the same port.
var proxied = []int{echoPort, bulkPort}

// start implements backend.
func (t *toxic) start(_ context.Context, f fault) (running, error) {
	if f.loss > 0 || len(f.cidrs) > 0 || f.distribution != "" {
		return nil, unsupported{"toxiproxy proxies TCP, and has no such toxic"}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &toxicRun{cmd: exec.Command(self, "-toxiproxy", strconv.FormatInt(f.delay.Milliseconds(), 10))}
	r.cmd.Stderr = os.Stderr
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := t.target.do(r.cmd.Start); err != nil {
		return nil, err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		return nil, errors.Join(fmt.Errorf("toxiproxy said %q: %w", line, err), r.stop())
	}
	return r, nil
}

type toxicRun struct {
	cmd *exec.Cmd
	in  io.Closer
}

func (*toxicRun) at(port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
}

func (r *toxicRun) stop() error { return errors.Join(r.in.Close(), r.cmd.Wait()) }

// serveToxiproxy is that process. It ends with its standard input.
func serveToxiproxy(latency time.Duration, stdin io.Reader, stdout io.Writer) error {
	metrics := toxi.NewMetricsContainer(prometheus.NewRegistry())
	server := toxi.NewServer(metrics, zerolog.Nop())
	for _, port := range proxied {
		listen, upstream := fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("%s:%d", farAddr, port)
		p := toxi.NewProxy(server, strconv.Itoa(port), listen, upstream)
		if err := server.Collection.Add(p, true); err != nil {
			return err
		}
		toxic := fmt.Sprintf(`{"type": "latency", "stream": "upstream", "attributes": {"latency": %d}}`, latency.Milliseconds())
		if latency == 0 {
			continue
		}
		if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(stdout, "ready\n"); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, stdin)
	return err
}
