package filter

import (
	"fmt"
	"net/netip"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// Resolution is how the programs of a target find the address of a name, as
// its files say: hosts(5) and resolv.conf(5).
type Resolution struct {
	Servers []netip.Addr // that are asked, with a zone where one is named

	r *resolver
}

// ReadResolution reads a target's files. It gives experiment.ErrUnsupported
// where it has none here.
func ReadResolution(fs proc.FS, t experiment.Target) (*Resolution, error) {
	if t.Root == "" || len(t.PIDs) == 0 {
		return nil, fmt.Errorf("%s has no files here that say how it resolves names: %w", t.Name, experiment.ErrUnsupported)
	}
	r, err := newResolver(fs, t.Root, t.PIDs[0], t.Net)
	if err != nil {
		return nil, err
	}
	return &Resolution{r.conf.servers, r}, nil
}

// Asked lists the names that a resolver is asked for where a program says
// name: in lower case, without a dot at the end. A name that ends with a dot is
// what it is; others have the search domains added.
func (r *Resolution) Asked(name string) []string {
	names := r.r.conf.candidates(name)
	for i := range names {
		names[i] = plainName(names[i])
	}
	return names
}

// InHosts tells whether a name stands in hosts(5): no resolver is asked for it.
func (r *Resolution) InHosts(name string) bool { return r.r.local[plainName(name)] != nil }
