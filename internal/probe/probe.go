// Package probe measures how well a system does: one number at a time (HTTP,
// TCP and Exec), or as the share and the speed of the answers to an open-loop
// load of its own (Load).
//
// What cannot be measured, because a connection is refused or no answer comes
// in time, is an error: a failed sample, never an error of the run. Errors are
// a few plain words, and repeat neither URLs nor headers, which may hold
// secrets.
package probe

import (
	"context"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
)

// How long a probe waits where a file says nothing.
const (
	DefaultTimeout     = experiment.Duration(time.Second)     // of http and tcp
	DefaultExecTimeout = experiment.Duration(5 * time.Second) // of exec
)

// Env is what probes and loads reach the system under test through.
type Env struct {
	// Dial connects as net.Dialer.DialContext does, names included; nil is
	// this host's own network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// All returns the catalogue of probes.
func All(env Env) experiment.Catalog[experiment.Probe] {
	dial := env.dialer()
	return experiment.Catalog[experiment.Probe]{
		"exec": func() experiment.Probe { return &Exec{Timeout: DefaultExecTimeout} },
		"http": func() experiment.Probe { return &HTTP{Timeout: DefaultTimeout, dial: dial} },
		"tcp":  func() experiment.Probe { return &TCP{Timeout: DefaultTimeout, dial: dial} },
	}
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

func (e Env) dialer() dialFunc {
	if e.Dial == nil {
		return new(net.Dialer).DialContext
	}
	return e.Dial
}

// checkMeasure refuses a measure that is none of known.
func checkMeasure(measure string, known ...string) error {
	if measure == "" || slices.Contains(known, measure) {
		return nil
	}
	hint := ""
	if near := experiment.Nearest(measure, known); near != "" {
		hint = ` (did you mean "` + near + `"?)`
	}
	return experiment.Fieldf("measure", "%q cannot be measured by this probe%s\n        measures: %s", measure, hint, strings.Join(known, " "))
}

func checkTimeout(timeout experiment.Duration) error {
	if timeout == 0 {
		return experiment.Fieldf("timeout", "0s leaves no time for an answer")
	}
	return nil
}
