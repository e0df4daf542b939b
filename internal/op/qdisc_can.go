package op

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/impair"
	"github.com/simianhq/simian/internal/proc"
)

// loopback is the index of lo, which is in every network namespace from the
// start (net/core/dev.c).
const loopback = 1

// inScratch runs fn with a socket of a network namespace that is made for it,
// in which there is lo and nothing else, and that goes with it.
func inScratch(fn func(c *tcConn) error) error {
	return proc.Do("/proc/self/ns/net", func() error { // which takes the thread back home, or ends it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace to try it in: %w", err)
		}
		c, err := openTC()
		if err != nil {
			return err
		}
		defer c.close()
		return fn(c)
	})
}

// CanNetem tries whether the kernel has netem (CONFIG_NET_SCH_NETEM, or its
// module), and gives ErrUnsupported with the kernel's reason where it has not.
func CanNetem(h *Host) error {
	return h.canQdisc(layer{kind: "netem", parent: handleRoot, handle: 1 << 16, options: netemOf(impair.Config{}, leastLimit).encode(nil)})
}

// CanPrio is CanNetem for prio, without which netem can't be for some packets
// only.
func CanPrio(h *Host) error {
	return h.canQdisc(layer{kind: "prio", parent: handleRoot, handle: 1 << 16, options: prioOptions()})
}

// CanTbf is CanNetem for tbf, without which there is no burst.
func CanTbf(h *Host) error {
	t := tbf{rate: 1 << 20, burst: 1 << 16, limit: 1 << 20}
	return h.canQdisc(layer{kind: "tbf", parent: handleRoot, handle: 1 << 16, options: t.encode()})
}

func (h *Host) canQdisc(l layer) error {
	return h.can(l.kind, func(c *tcConn) error { return c.add(loopback, l, createNew) })
}

// CanIfb tries whether the kernel has ifb links (CONFIG_IFB, or its module).
func CanIfb(h *Host) error {
	return h.can("ifb", func(c *tcConn) error { return c.addIfb("sm", 2) })
}

// can tries once whether the kernel has something: it takes a millisecond.
func (h *Host) can(kind string, try func(c *tcConn) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err, known := h.tried[kind]; known {
		return err
	}
	err := notHere(kind, inScratch(try))
	if err == nil || errors.Is(err, experiment.ErrUnsupported) {
		if h.tried == nil {
			h.tried = map[string]error{}
		}
		h.tried[kind] = err
	}
	return err
}

// notHere makes an ErrUnsupported of what the kernel says of a kind that it
// does not know. Other errors stay what they are.
func notHere(kind string, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("this kernel has no %s: %w: %w", kind, err, experiment.ErrUnsupported)
	}
	if err != nil {
		return fmt.Errorf("try %s: %w", kind, err)
	}
	return nil
}

// linkSpeed asks a link of this thread's namespace for its speed in bits per
// second (ETHTOOL_GSET, linux/ethtool.h), 0 where it has none.
func linkSpeed(name string) float64 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	cmd := struct { // struct ethtool_cmd
		cmd, supported, advertising uint32
		speed                       uint16
		_                           [14]byte
		speedHigh                   uint16
		_                           [14]byte
	}{cmd: unix.ETHTOOL_GSET}
	request := struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&cmd)}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return 0
	}
	const unknown = 1<<32 - 1
	if speed := uint32(cmd.speedHigh)<<16 | uint32(cmd.speed); speed != unknown {
		return float64(speed) * 1e6
	}
	return 0
}
