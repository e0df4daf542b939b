package main

import (
	"context"
	"net/netip"
	"time"
)

// The backends by their names in results.
const (
	none      = "none" // no fault: the baseline
	netem     = "simian netem"
	queue     = "simian queue"
	nft       = "simian nft" // loss alone
	tc        = "tc"
	toxiproxy = "toxiproxy"
)

// fault is what is done to all that the target sends.
type fault struct {
	delay, jitter time.Duration
	distribution  string // of jitter
	loss          float64
	cidrs         []netip.Prefix // only to these
}

// backend puts faults in force.
type backend interface {
	name() string
	start(ctx context.Context, f fault) (running, error)
}

// running is a fault in force.
type running interface {
	// at is where a connection to this port of the far end is to go, for the
	// fault to be met.
	at(port int) netip.AddrPort
	// stop takes the fault back.
	stop() error
}

// direct is where a fault is met that lies on the way.
type direct struct{}

func (direct) at(port int) netip.AddrPort { return netip.AddrPortFrom(farAddr, uint16(port)) }

// baseline does nothing.
type baseline struct{ direct }

func (baseline) name() string                                    { return none }
func (b baseline) start(context.Context, fault) (running, error) { return b, nil }
func (baseline) stop() error                                     { return nil }

// unsupported says why a backend can't do something.
type unsupported struct{ why string }

func (u unsupported) Error() string { return u.why }
