package latency

import (
	"strings"
	"testing"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// forms are the faults that plan steps of different kinds.
var forms = []struct{ name, backend, fields string }{
	{"nft-loss", "", "loss: 5"},
	{"nft-loss-filter", "", "loss: 5, direction: both, protocol: tcp, ports: [7001, 8000-8099], cidrs: [10.81.0.0/24, 'fd81::1'], exclude: {ports: 8080, cidrs: [10.81.0.3]}, percent: 25"},
	{"netem", backendNetem, "delay: 20ms, jitter: 5ms, distribution: normal, loss: {gilbert: {p: 1, r: 20}}"},
	{"netem-filter", backendNetem, "delay: 20ms, ports: 7001, cidrs: [10.81.0.1]"},
	{"netem-ingress", backendNetem, "delay: 20ms, direction: ingress"},
	{"netem-both", backendNetem, "delay: 20ms, direction: both, hosts: ['fd81::1']"},
	{"netem-burst", backendNetem, "delay: 20ms, rate: {rate: 10mbit, burst: 32KiB, overhead: 24}"},
	{"queue", backendQueue, "delay: 20ms, jitter: 5ms, rate: 100mbit"},
	{"queue-both", backendQueue, "delay: 20ms, duplicate: 1, corrupt: {percent: 1, correlation: 25}, reorder: {percent: 25, gap: 5}, direction: both, protocol: udp, limit: 8MiB"},
}

// forced names the backend in a file's fields, where one is forced.
func forced(backend, fields string) string {
	if backend == "" {
		return fields
	}
	return fields + ", backend: " + backend
}

func TestConformance(t *testing.T) {
	for _, form := range forms {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			need(t, form.backend)
			host := op.NewHost(proc.Host())
			var w *wire
			experimenttest.Fault(t, experimenttest.FaultCase{
				Fault: readFault(t, loader(host, new([]experiment.Target)), forced(form.backend, form.fields)),
				Ops:   host.Ops(),
				Target: func(t testing.TB) experiment.Target {
					w = newWireFor(t, host)
					return w.target.Target
				},
				Snapshot: func(target experiment.Target) string { return w.snapshot(target) },
				Gone:     func(testing.TB, experiment.Target) { w.target.end(); w.peer.end() },
			})
		})
	}
}

// TestConformanceNames is the suite for a fault that follows a name.
func TestConformanceNames(t *testing.T) {
	for _, backend := range []string{"", backendNetem, backendQueue} {
		t.Run("backend "+backend, func(t *testing.T) {
			t.Parallel()
			need(t, backend)
			host := op.NewHost(proc.Host())
			var w *wire
			experimenttest.Fault(t, experimenttest.FaultCase{
				Fault: readFault(t, loader(host, new([]experiment.Target)), forced(backend, "loss: 100, hosts: [db.test]")),
				Ops:   host.Ops(),
				Target: func(t testing.TB) experiment.Target {
					w = newWireFor(t, host)
					w.target.file("etc/hosts", peerIP["IPv4"].String()+" db.test\n")
					return w.target.Target
				},
				Snapshot: func(target experiment.Target) string { return w.snapshot(target) },
			})
		})
	}
}

// TestBackends asks which backend is planned for what.
func TestBackends(t *testing.T) {
	w := newWire(t, "IPv4")
	or := func(fields, backend string) string { // what is left where there is no netem
		if op.CanNetem(w.host) != nil {
			return fields
		}
		return backend
	}
	for _, c := range []struct{ name, fields, want string }{
		{"loss alone", "loss: 5", "nftables"},
		{"all is lost", "loss: 100, direction: both", "nftables"},
		{"loss by queue", "loss: 5, backend: queue", "queue"},
		{"loss with more", "loss: 5, delay: 1ms", or("queue", "netem")},
		{"correlated loss", "loss: {percent: 5, correlation: 50}", or("queue", "netem")},
		{"a model of loss", "loss: {gilbert: {p: 1}}", or("queue", "netem")},
		{"delay", "delay: 5ms", or("queue", "netem")},
		{"correlated delay, which netem can't", "delay: 5ms, jitter: 1ms, correlation: 25", "queue"},
		{"queue", "delay: 5ms, backend: queue", "queue"},
	} {
		steps, err := w.fault(c.fields).Plan(t.Context(), run, w.target.Target)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := steps[0].Do.(experiment.Backed).Backend(); got != c.want {
			t.Errorf("%s: by %s, want %s", c.name, got, c.want)
		}
	}
}

// TestForcedNetem forces what there is not.
func TestForcedNetem(t *testing.T) {
	w := newWire(t, "IPv4")
	fields := map[string]string{"delay: 5ms, jitter: 1ms, correlation: 25, backend: netem": "netem: a correlation of delays"}
	if err := op.CanNetem(w.host); err != nil {
		fields = map[string]string{"delay: 5ms, backend: netem": "this kernel has no netem"}
	}
	for f, want := range fields {
		_, err := w.fault(f).Plan(t.Context(), run, w.target.Target)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "backend: queue") {
			t.Errorf("%s: %v", f, err)
		}
	}
}
