package faults

import "github.com/simianhq/simian/internal/op"

// hostNet is why the network of a process that has none of its own is left
// alone.
const hostNet = "the network of NAME is the host's own, with all that goes on there (allowHost: true allows it): protected"

func partitionCases() []faultCase {
	var all []faultCase
	for _, how := range [][2]string{{"drop", "lost"}, {"reject", "told"}, {"reset", "turned away"}} {
		all = append(all, faultCase{
			Name: "partition", Net: true, Form: how[0], Section: "{type: partition, to: {$TO}, how: " + how[0] + "}",
			Feel: dials("tcp"), Well: "answered", Ill: how[1], Refused: always(hostNet, service, process),
		})
	}
	const routes = "the network of NAME is the host's own, whose routes are left alone (how: drop, reject or reset with allowHost: true go there): protected"
	for _, how := range []string{"blackhole", "unreachable", "prohibit"} {
		all = append(all, faultCase{
			Name: "partition", Net: true, Form: how, Section: "{type: partition, to: {$TO}, how: " + how + "}",
			Feel: dials("tcp"), Well: "answered", Ill: "told", Refused: always(routes, service, process),
		})
	}
	return all
}

func latencyCases() []faultCase {
	late := func(form, fields string) faultCase {
		return faultCase{
			Name: "latency", Net: true, Form: form, Section: "{type: latency, " + fields + "}",
			Feel: dials("udp"), Well: "answered", Ill: "late", Refused: always(hostNet, service, process),
		}
	}
	lossy := late("loss", "loss: 100")
	lossy.Ill = "lost"
	netem := late("netem", "delay: 400ms, backend: netem")
	if err := op.CanNetem(op.NewHost(host)); err != nil {
		why := "backend netem: " + err.Error() + " (backend: queue needs none)"
		netem.Refused = func(k kind) string {
			if k.contained() || k == networked {
				return why
			}
			return hostNet
		}
	}
	return []faultCase{late("delay", "delay: 400ms"), netem, late("queue", "delay: 400ms, backend: queue"), lossy}
}
