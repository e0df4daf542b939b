package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/proc"
)

// addNets looks what can be done to networks.
func (s *soak) addNets() error {
	if s.net == 0 {
		return nil
	}
	if os.Geteuid() != 0 {
		s.host.lacks = append(s.host.lacks, "no network is broken: that needs root")
		return nil
	}
	why := netemHere()
	s.host.netem = why == nil
	if why != nil {
		s.host.lacks = append(s.host.lacks, fmt.Sprintf("no netem here (%v): the queue and nftables alone", why))
	}
	s.onNets = s.choose(netBlows(s.host))
	var err error
	s.hostNet, err = hostNet()
	return err
}

// netemHere gives the kernel's reason where it has no netem.
func netemHere() error {
	return proc.Do("/proc/self/ns/net", func() error { // which takes the thread back home
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		at := netlink.QdiscAttrs{LinkIndex: 1, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
		return netlink.QdiscAdd(netlink.NewNetem(at, netlink.NetemQdiscAttrs{Latency: 1000}))
	})
}

// hostState lists what in the host's own network has the name of one of the
// trial's runs.
func (t *trial) hostState() []string {
	lines, err := hostNet()
	if err != nil {
		return []string{"cannot be read: " + err.Error()}
	}
	return slices.DeleteFunc(lines, func(line string) bool {
		return !slices.ContainsFunc(t.runs(), func(run string) bool { return strings.Contains(line, run) })
	})
}

func hostNet() ([]string, error) {
	self, err := proc.Host().Target(os.Getpid())
	if err != nil {
		return nil, err
	}
	return netState(self)
}

// checkHostNet compares this host's own network with what it was before.
func (s *soak) checkHostNet() {
	if s.hostNet == nil {
		return
	}
	now, err := hostNet()
	if err != nil {
		now = []string{err.Error()}
	}
	for _, line := range (&wire{}).differences(s.hostNet, now) {
		s.tally.drifted = append(s.tally.drifted, "this host's own network: "+line)
	}
}
