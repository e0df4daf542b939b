package main

import (
	"fmt"
	"strings"
	"time"
)

// newNetRecipe draws an experiment that makes a wire bad, once to three times,
// in a row or side by side, and may break processes besides.
func (t *trial) newNetRecipe() (*recipe, error) {
	r := &recipe{t: t}
	t.recipe = r
	if _, err := t.newWire(); err != nil {
		return r, err
	}
	checked := t.rng.IntN(4) == 0
	for i := range 1 + t.rng.IntN(3) {
		length := time.Duration(60+t.rng.IntN(240)) * time.Millisecond
		if checked && i == 0 {
			length += window + 2*every // as above
		}
		kinds := []kind{r.latency, r.latency, r.latency, r.partition}
		if i > 0 { // two of the first beside each other on one target are refused
			kinds = kinds[2:]
		}
		switch {
		case t.blow.queue && i == 0:
			kinds = []kind{r.byQueue}
		case i > 0 && t.rng.IntN(3) == 0:
			kinds = append(r.processKinds(), r.freezeEnd)
		}
		if err := r.action(i, length, kinds); err != nil {
			return r, err
		}
		r.length += gauged
	}
	if checked {
		r.check()
	}
	return r, nil
}

// gauged is how long the measurement before a fault of the network takes,
// roughly.
const gauged = 60 * time.Millisecond

// The backends that an experiment may ask for.
const (
	byNetem = "netem"
	byQueue = "queue"
)

// latency makes packets late, lost, doubled, corrupted, reordered or slow.
func (r *recipe) latency(string, time.Duration) (string, error) {
	backends := []string{"", "", byQueue}
	if r.t.soak.host.netem {
		backends = append(backends, byNetem)
	}
	return r.late(backends[r.t.rng.IntN(len(backends))]), nil
}

// byQueue is latency of the queue.
func (r *recipe) byQueue(string, time.Duration) (string, error) { return r.late(byQueue), nil }

func (r *recipe) late(backend string) string {
	target, ends, filter := r.struckEnds()
	words := append([]string{"type: latency"}, r.impairments(backend)...)
	words = append(words, filter...)
	if backend != "" {
		words = append(words, "backend: "+backend)
	}
	rooted := false
	for _, e := range ends {
		rooted = rooted || e.rooted
	}
	if backend != byQueue && (rooted || r.t.rng.IntN(5) == 0) {
		words = append(words, "onExisting: replace")
	}
	r.latencies++
	return r.fault(words, target)
}

// partition keeps packets away.
func (r *recipe) partition(string, time.Duration) (string, error) {
	target, _, filter := r.struckEnds()
	words := append([]string{"type: partition"}, filter...)
	if how := []string{"", "drop", "reject", "reset"}[r.t.rng.IntN(4)]; how != "" {
		words = append(words, "how: "+how)
	}
	return r.fault(words, target), nil
}

func (r *recipe) fault(words []string, target string) string {
	text := fmt.Sprintf("fault: {%s}, target: {%s}", strings.Join(words, ", "), target)
	r.names = append(r.names, text)
	return text
}

// freezeEnd stops an end of the wire.
func (r *recipe) freezeEnd(string, time.Duration) (string, error) {
	r.names = append(r.names, "an end of the wire stopped")
	r.stopsEnd = true
	e := r.wire.ends()[r.t.rng.IntN(2)]
	return fmt.Sprintf("fault: {type: freeze, backend: signal}, target: {type: process, pid: %d}", e.id.PID), nil
}

// struckEnds draws which ends a fault is on, and a filter that fits them.
func (r *recipe) struckEnds() (target string, ends []*netEnd, filter []string) {
	w := r.wire
	pid := func(e *netEnd) string { return fmt.Sprintf("type: process, pid: %d", e.id.PID) }
	switch r.t.rng.IntN(6) {
	case 0:
		return pid(w.far), []*netEnd{w.far}, r.filter(nearIP, pid(w.near), fmt.Sprintf("sourcePorts: %d", farPort))
	case 1:
		target = fmt.Sprintf("type: process, command: '^soak-(near|far) %s$', mode: all", r.t.tag)
		return target, w.ends(), r.filter("10.78.0.0/24", "type: process, pid: 1", "protocol: udp")
	}
	return pid(w.near), []*netEnd{w.near}, r.filter(farIP, pid(w.far), fmt.Sprintf("ports: %d", farPort))
}

// filter draws which packets are meant: peer is the other end's address, to a
// selector that finds it, and ports a filter of what is asked by UDP.
func (r *recipe) filter(peer, to, ports string) []string {
	rng := r.t.rng
	var words []string
	if d := []string{"", "egress", "ingress", "both"}[rng.IntN(4)]; d != "" {
		words = append(words, "direction: "+d)
	}
	if rng.IntN(4) == 0 {
		words = append(words, "interfaces: ["+wireLink+"]")
	}
	other := func(ip string) string { return fmt.Sprintf("cidrs: [%s]", ip) }
	narrow := [][]string{
		{other(peer)},
		{ports},
		{ports, other(peer)},
		{"protocol: [udp, icmp]"},
		{fmt.Sprintf("exclude: {ports: %d, sourcePorts: %d}", wordPort, wordPort)},
		{"percent: 50"},
		{"protocol: tcp, ports: 9"}, // of which there is nothing
	}
	if !strings.HasSuffix(to, "pid: 1") {
		narrow = append(narrow, []string{"to: {" + to + "}"})
	}
	if r.wire.v6 {
		narrow = append(narrow, []string{`cidrs: [10.78.0.0/24, "fd78::/64"]`})
	}
	if rng.IntN(5) > 1 {
		words = append(words, narrow[rng.IntN(len(narrow))]...)
	}
	return words
}

// impairments draws what becomes of packets.
func (r *recipe) impairments(backend string) []string {
	rng := r.t.rng
	one := func(of ...string) string { return of[rng.IntN(len(of))] }
	var words []string
	delayed := rng.IntN(4) > 0
	if delayed {
		words = append(words, r.delays(backend)...)
	}
	if !delayed || rng.IntN(5) == 0 {
		words = append(words, one("loss: 100", "loss: 100", "loss: 30", "loss: {percent: 20, correlation: 25}",
			"loss: {states: {p13: 20, p31: 60}}", "loss: {gilbert: {p: 20, r: 60}}"))
	}
	for _, each := range []string{"duplicate: 5", "corrupt: {percent: 3, correlation: 10}", one("rate: 256kbit", "rate: {rate: 4mbit, burst: 16KiB, overhead: 14}")} {
		if rng.IntN(6) == 0 {
			words = append(words, each)
		}
	}
	return words
}

// delays draws a delay that makes every packet late.
func (r *recipe) delays(backend string) []string {
	rng := r.t.rng
	delay := (r.wire.late*5/2 + time.Duration(rng.IntN(20))*time.Millisecond).Round(time.Millisecond)
	words := []string{"delay: " + delay.String()}
	if rng.IntN(2) == 0 {
		words = append(words, "jitter: "+(delay/10).String(), "distribution: "+[]string{"uniform", "normal", "pareto", "paretonormal"}[rng.IntN(4)])
		if backend != byNetem && rng.IntN(4) == 0 {
			words = append(words, "correlation: 25")
		}
	}
	if rng.IntN(5) == 0 {
		words = append(words, []string{"reorder: 20", "reorder: {percent: 10, gap: 3}"}[rng.IntN(2)])
	}
	return words
}
