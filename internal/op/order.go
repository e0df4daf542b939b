package op

import (
	"fmt"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
)

// An order is left to the process that keeps a launched container up, be it
// this one or another, as a file in the folder of its lab. It outlives who left
// it, and goes with the lab.
//
//	<lab>/orders/NAME.order    what is to be done: left by a rename
//	<lab>/orders/NAME.answer   what has been done: written by the keeper
//	<lab>/orders/NAME.back     what is to be taken back: renamed from NAME.order;
//	                           removed by the keeper, with the answer, once that is done
const (
	OrdersDir = "orders"
	Ordered   = ".order"
	Answered  = ".answer"
	Back      = ".back"
)

// The kinds of orders.
const (
	OrderStop         = "stop"         // end it, and do not start it
	OrderRemove       = "remove"       // and throw away what it has written
	OrderCapabilities = "capabilities" // start it anew without some
	OrderClocks       = "clocks"       // start it anew with other clocks
)

// Order is what the keeper of a container is told.
type Order struct {
	Container string               `json:"container"` // such as web-1
	Run       experiment.RunID     `json:"run"`
	Process   experiment.ProcessID `json:"process"` // of its service: the order is for this one, or for none
	What      string               `json:"what"`    // stop, remove, capabilities or clocks

	Signal       string               `json:"signal,omitempty"`      // of stop; "" is the container's own stop signal
	Grace        *experiment.Duration `json:"grace,omitempty"`       // of stop, until it is killed; nil is the container's own
	RestartAfter experiment.Duration  `json:"restartAfter,omitzero"` // of stop: it is started again so long after its end
	Volumes      bool                 `json:"volumes,omitzero"`      // of remove: those without a name too
	Drop         []string             `json:"drop,omitempty"`        // of capabilities: their names, without CAP_
	MonotonicNs  int64                `json:"monotonicNs,omitzero"`  // of clocks: how far from the host's, in nanoseconds
	Note         string               `json:"note,omitempty"`        // what a user should know of the plan
	BoottimeNs   int64                `json:"boottimeNs,omitzero"`   // of clocks
}

// Holds tells whether the container is not to run while the order stands.
func (o Order) Holds() bool { return o.What == OrderStop || o.What == OrderRemove }

// By names the order for people.
func (o Order) By() string { return fmt.Sprintf("%s of run %s", o.What, o.Run) }

func (o Order) name() string {
	return fmt.Sprintf("%s@%s-%d-%d-%s", o.Container, o.Run, o.Process.PID, o.Process.Start, o.What)
}

// Answer is what the keeper has made of an order, for as long as that stands.
type Answer struct {
	Refused string               `json:"refused,omitempty"` // why it was not taken: the container is another by now
	Done    bool                 `json:"done,omitzero"`     // it is as ordered: ended, or started anew
	Took    experiment.Duration  `json:"took,omitzero"`     // until then
	Ended   string               `json:"ended,omitempty"`   // how the process ended that was there: "exit 0"
	Signal  string               `json:"signal,omitempty"`  // that it was asked to end by
	Grace   experiment.Duration  `json:"grace,omitzero"`    // that it was given
	Killed  bool                 `json:"killed,omitzero"`   // since it did not end within that
	Files   int                  `json:"files,omitzero"`    // that were removed
	Bytes   int64                `json:"bytes,omitzero"`    // that they held
	Again   bool                 `json:"again,omitzero"`    // started again, RestartAfter its end
	Exits   int                  `json:"exits,omitzero"`    // of what was started as ordered, by itself
	Exit    string               `json:"exit,omitempty"`    // the last of these
	Process experiment.ProcessID `json:"process,omitzero"`  // of its service now
	State   string               `json:"state,omitempty"`   // now
	Why     string               `json:"why,omitempty"`     // why it is not healthy, or could not be started or put back
}

// String gives the order in one line.
func (o Order) String() string {
	switch o.What {
	case OrderStop:
		return o.stopWords()
	case OrderRemove:
		words := "remove " + o.Container + ", with what it has written"
		if o.Volumes {
			words += " and its anonymous volumes"
		}
		return words
	case OrderCapabilities:
		return fmt.Sprintf("restart %s without %s", o.Container, strings.Join(o.Drop, ", "))
	}
	return fmt.Sprintf("restart %s in a time namespace (monotonic %+v, boottime %+v)", o.Container, time.Duration(o.MonotonicNs), time.Duration(o.BoottimeNs))
}

func (o Order) stopWords() string {
	words := "stop " + o.Container
	if o.Signal != "" {
		words += ", " + o.Signal
	}
	if o.Grace != nil {
		words += fmt.Sprintf(", kill it after %s", o.Grace)
	}
	if o.RestartAfter > 0 {
		words += fmt.Sprintf(", start it again after %s", o.RestartAfter)
	}
	return words
}

func (o Order) undoWords() string {
	switch o.What {
	case OrderStop:
		return "start " + o.Container
	case OrderRemove:
		if o.Volumes {
			return "start " + o.Container + " anew, its named volumes kept"
		}
		return "start " + o.Container + " anew, its volumes kept"
	case OrderCapabilities:
		return "restart " + o.Container + " with its own capabilities"
	}
	return "restart " + o.Container + " with the host's clocks"
}
