package op

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/proc"
)

// FreeQueueNumber returns the first number that no queue of run has in a
// network namespace.
func FreeQueueNumber(h *Host, ns experiment.Namespace, run experiment.RunID) (int, error) {
	links, err := h.FS.Links(ns)
	for n := 0; ; n++ {
		if err != nil || !queueThere(links, fmt.Sprintf("sm%sq%d-", run, n)) {
			return n, err
		}
	}
}

func queueThere(links []proc.Link, prefix string) bool {
	for _, l := range links {
		if strings.HasPrefix(l.Name, prefix) {
			return true
		}
	}
	return false
}

// CheckQueue tries in an empty network namespace of its own what q needs of
// the kernel, and gives experiment.ErrUnsupported with the kernel's reason
// where it is not there.
func CheckQueue(q *Queue) error {
	m := q.Match
	if err := CheckNft(NewTable(q.host, q.Net, q.Table(), m, TableAct{Kind: ActFwd, Mark: q.mark()})); err != nil {
		return err
	}
	if err := q.host.can("TAP devices", func(*tcConn) error { return tryTAP() }); err != nil || !m.Ingress {
		return err
	}
	return q.host.can("clsact and BPF classifiers", tryRedirect)
}

// tryTAP opens what TAP devices are made with. None is made: to remove it
// again would take longer than all the rest of a plan.
func tryTAP() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	defer unix.Close(fd)
	features, err := unix.IoctlGetUint32(fd, unix.TUNGETFEATURES)
	if err == nil && features&unix.IFF_VNET_HDR == 0 {
		err = errors.New("they know no virtio header")
	}
	return err
}

// tryRedirect does to lo what an ingress TAP needs.
func tryRedirect(*tcConn) error {
	lo := filter.Link{Name: "lo", Index: loopback}
	d := &device{lane: lane{device: lo.Name, link: lo, ingress: true}, index: loopback}
	defer func() {
		if d.stamp != nil {
			d.stamp.Close()
		}
	}()
	return d.attach(1)
}

// CanQueue is CheckQueue for both directions, and no filter.
func CanQueue(h *Host) error {
	m := filter.Match{Egress: true, Ingress: true, Links: []filter.Link{{Name: "lo", Index: 1}}}
	return CheckQueue(&Queue{Run: "check2", Match: m, Present: true, host: h})
}
