package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/httprelay"
	"github.com/simianhq/simian/internal/op"
)

// HTTP makes requests that a target is asked by HTTP fail: aborted, delayed, or
// answered with another status; all of them, or some by method, path and
// header.
type HTTP struct {
	Port     uint16              `json:"port,omitzero" jsonschema:"the target's own, on which it is asked"`
	Ports    []uint16            `json:"ports,omitempty" jsonschema:"or several"`
	Requests []string            `json:"requests,omitempty" jsonschema:"a method, a path, or both: POST /orders/{id}, /static/ with all below it, GET /{$} for the root alone; left out, all"`
	Headers  map[string]string   `json:"headers,omitempty" jsonschema:"headers, and regular expressions (RE2) that their whole value matches; all must hold"`
	Percent  *experiment.Percent `json:"percent,omitempty" jsonschema:"only this share of the requests that match, each by itself"`

	Abort  bool                `json:"abort,omitzero" jsonschema:"the connection is reset"`
	Delay  experiment.Duration `json:"delay,omitzero" jsonschema:"the request reaches the target so much later; with abort or status, that comes so much later"`
	Status int                 `json:"status,omitzero" jsonschema:"answered with this one, such as 503; the target never sees the request"`
	Answer map[string]string   `json:"answer,omitempty" jsonschema:"headers of that answer, such as Retry-After: 30"`
	Body   string              `json:"body,omitempty" jsonschema:"of that answer"`

	Connections string `json:"connections,omitempty" jsonschema:"those that stand already: reset, so that the next request begins a new one (default), or keep: they go on past the fault"`

	host *op.Host
}

// longestBody of an answer, in bytes: the journal holds it.
const longestBody = 64 << 10

// Validate implements experiment.Validator.
func (h *HTTP) Validate() error {
	switch {
	case h.Port == 0 && len(h.Ports) == 0:
		return experiment.Fieldf("port", "say which: the target's own, on which it is asked")
	case h.Port != 0 && len(h.Ports) > 0:
		return experiment.Fieldf("ports", "say port or ports, not both")
	case slices.Contains(h.Ports, 0):
		return experiment.Fieldf("ports", "0 is no port")
	case !h.Abort && h.Delay == 0 && h.Status == 0:
		return experiment.Fieldf("status", "say what becomes of the requests: abort, delay or status")
	case h.Abort && h.Status != 0:
		return experiment.Fieldf("abort", "what is aborted gets no status: say one of them")
	case h.Status != 0 && (h.Status < 200 || h.Status > 599):
		return experiment.Fieldf("status", "%d is no status of an answer (200 to 599)", h.Status)
	case h.Status == 0 && (h.Body != "" || len(h.Answer) > 0):
		return experiment.Fieldf("status", "body and answer belong to a status")
	case h.Delay < 0:
		return experiment.Fieldf("delay", "%s is less than nothing", h.Delay)
	case len(h.Body) > longestBody:
		return experiment.Fieldf("body", "%s is more than %s", experiment.Size(len(h.Body)), experiment.Size(longestBody))
	case h.Percent != nil && *h.Percent == 0:
		return experiment.Fieldf("percent", "0 %% of the requests is none")
	case !slices.Contains([]string{"", "reset", "keep"}, h.Connections):
		return experiment.Fieldf("connections", "unknown %q\n        known: reset keep", h.Connections)
	}
	return h.validatePatterns()
}

func (h *HTTP) validatePatterns() error {
	only := httprelay.Rule{Requests: h.Requests, Abort: true}
	if err := only.Check(); err != nil {
		return experiment.Fieldf("requests", "%s (write a method, a path, or both: POST /orders/{id})", err)
	}
	only = httprelay.Rule{Headers: h.Headers, Abort: true}
	if err := only.Check(); err != nil {
		return experiment.Fieldf("headers", "%s", err)
	}
	return nil
}

// Plan implements experiment.Fault.
func (h *HTTP) Plan(_ context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	if len(t.PIDs) == 0 {
		return nil, fmt.Errorf("%s has no process here: %w", t.Name, experiment.ErrUnsupported)
	}
	ns, err := h.host.FS.NetworkOf(t)
	if err != nil {
		return nil, err
	}
	if h.host.FS.HostNetwork(ns) {
		return nil, fmt.Errorf("the network of %s is the host's own, and so are its ports: give it a network namespace of its own: %w", t.Name, experiment.ErrProtected)
	}
	ports := h.Ports
	if h.Port != 0 {
		ports = []uint16{h.Port}
	}
	if err := h.listens(t, ports); err != nil {
		return nil, err
	}
	if err := op.CheckRedirect(h.host); err != nil {
		return nil, err
	}
	do := op.NewHTTP(h.host, op.HTTP{
		Net: ns, Run: run, Target: t.PIDs[0], Ports: ports, Rule: h.rule(), Keep: h.Connections == "keep", Words: h.words(),
	})
	return []experiment.Step{{Do: do, Undo: do.Gone()}}, nil
}

// listens refuses ports of the target's network namespace on which nobody
// listens whom others could ask.
func (h *HTTP) listens(t experiment.Target, ports []uint16) error {
	open := h.host.FS.Listening(t)
	for _, p := range ports {
		if !slices.Contains(open, int(p)) {
			return fmt.Errorf("nothing that others could ask listens on its port %d of TCP (ports: %s): %w", p, strings.Trim(fmt.Sprint(open), "[]"), experiment.ErrNoMatch)
		}
	}
	return nil
}

func (h *HTTP) rule() httprelay.Rule {
	r := httprelay.Rule{
		Requests: h.Requests, Headers: h.Headers, DelayNs: int64(h.Delay.D()),
		Abort: h.Abort, Status: h.Status, Answer: h.Answer, Body: h.Body,
	}
	if h.Percent != nil && *h.Percent < 100 {
		r.Percent = float64(*h.Percent)
	}
	return r
}

// words say which requests, and what becomes of them.
func (h *HTTP) words() string {
	does := ""
	if h.Delay > 0 {
		does = "delay by " + time.Duration(h.Delay).String() + " and "
	}
	switch {
	case h.Abort:
		does += "abort"
	case h.Status != 0:
		does += "answer " + strconv.Itoa(h.Status) + " to"
	default:
		does = strings.TrimSuffix(does, " and ")
	}
	which := "all requests"
	if len(h.Requests) > 0 {
		which = strings.Join(h.Requests, ", ")
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		which += fmt.Sprintf(", %s: %s", name, h.Headers[name])
	}
	if h.Percent != nil && *h.Percent < 100 {
		which += fmt.Sprintf(", %v%% of them", float64(*h.Percent))
	}
	return does + " " + which
}
