package experiment

import "context"

// Listed is one thing of this host that can be broken, or why it can't.
type Listed struct {
	Kind      string `json:"kind"` // the selector's name in the catalogue
	Name      string `json:"name"`
	Workload  string `json:"workload,omitempty"`
	Runtime   string `json:"runtime,omitempty"`   // simian, docker …; "" for processes
	PID       int    `json:"pid,omitzero"`        // of its first process, 0 where none runs
	Cgroup    string `json:"cgroup,omitempty"`    // below the root of its hierarchy
	Protected string `json:"protected,omitempty"` // what protects it: a label, or what it is
	Out       string `json:"out,omitempty"`       // why it can't be a target now
}

// Lister lists, on a selector, all that it could find on this host, those
// that are out too, each with the reason. The error wraps ErrUnsupported where
// what it asks isn't there: no socket of that runtime. It reads only.
type Lister interface {
	List(ctx context.Context) ([]Listed, error)
}
