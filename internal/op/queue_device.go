package op

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/impair"
	"github.com/simianhq/simian/internal/queue"
)

// ringLength is how many packets may wait in a TAP until the helper reads
// them: 50 ms of 200,000 packets a second. The kernel's own is 500.
const ringLength = 10_000

// sendBuffer is how many bytes the helper may have under way in a link, for
// which packets count by the memory they take.
const sendBuffer = 16 << 20

// Offloads of a TAP (include/uapi/linux/if_tun.h). What it can do, the kernel
// leaves undone: packets stay whole, and without checksum.
const (
	tunOffloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	tunUSO      = unix.TUN_F_USO4 | unix.TUN_F_USO6 // Linux 6.2
)

// device is a lane's TAP and socket.
type device struct {
	lane
	index    int
	header   int
	merge    bool     // datagrams may be sent as one that is yet to be cut
	tap, out *os.File // out is nil for ingress
	stamp    *ebpf.Map
}

func (d *device) close() {
	for _, f := range []*os.File{d.tap, d.out} {
		if f != nil {
			f.Close()
		}
	}
	if d.stamp != nil {
		d.stamp.Close()
	}
}

// wholesale tells whether packets may be large ones that are yet to be cut:
// then nothing is done to each one for itself.
func wholesale(c impair.Config) bool {
	return c == impair.Config{Delay: c.Delay}
}

// openDevice makes the TAP for a lane, and what sends packets on. It is called
// in the target's network namespace. Whatever fails, closing takes it back.
func (q *Queue) openDevice(l lane) (d *device, err error) {
	link, err := netlink.LinkByIndex(l.link.Index)
	if err != nil || link.Attrs().Name != l.link.Name {
		return nil, fmt.Errorf("link %s (index %d): %w", l.link.Name, l.link.Index, experiment.ErrGone)
	}
	d = &device{lane: l, header: headerLength(link)}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.tap, err = openTAP(l.device, d.header == 0); err != nil {
		return nil, err
	}
	if wholesale(q.Impair) {
		if d.merge, err = offload(d.tap); err != nil {
			return nil, fmt.Errorf("set offloads of %s: %w", l.device, err)
		}
	}
	if err := d.configure(link.Attrs().MTU); err != nil {
		return nil, fmt.Errorf("set up %s: %w", l.device, err)
	}
	if err := d.attach(q.mark()); err != nil || l.ingress {
		return d, err
	}
	d.out, err = openSender(l.link.Index, q.mark())
	return d, err
}

// headerLength is that of Ethernet, or 0 for links that carry bare IP.
func headerLength(l netlink.Link) int {
	switch l.Attrs().EncapType {
	case "ether", "loopback":
		return 14
	}
	return 0
}

// ifreq is struct ifreq with flags (netdevice(7)).
type ifreq struct {
	name  [unix.IFNAMSIZ]byte
	flags uint16
	_     [22]byte
}

// openTAP makes a TAP device, or a TUN device for a link without headers, that
// goes when the file is closed. Each frame has a struct virtio_net_hdr before
// it.
func openTAP(name string, bare bool) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("open /dev/net/tun: %w: this kernel has no TAP devices: %w", err, experiment.ErrUnsupported)
	}
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	r := ifreq{flags: unix.IFF_TAP}
	if bare {
		r.flags = unix.IFF_TUN
	}
	r.flags |= unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL
	copy(r.name[:], name)
	if err := ioctl(fd, unix.TUNSETIFF, unsafe.Pointer(&r)); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// offload makes a TAP take packets that are yet to be cut, and tells whether
// datagrams of UDP may be among them.
func offload(tap *os.File) (udp bool, err error) {
	fd := int(tap.Fd())
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tunOffloads|tunUSO) == nil {
		return true, nil
	}
	return false, unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tunOffloads)
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// configure sets the TAP up. It must say nothing by itself: no neighbours, no
// IPv6 address, no solicitation.
func (d *device) configure(mtu int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	index, err := linkIndex(d.device)
	if err != nil {
		return err
	}
	d.index = index
	_ = os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", d.device, "disable_ipv6"), []byte("1"), 0) // no file, no IPv6
	for _, each := range []struct {
		request uint
		value   int
	}{
		{unix.SIOCSIFTXQLEN, ringLength},
		{unix.SIOCSIFMTU, min(mtu, 65521)},
		{unix.SIOCSIFFLAGS, unix.IFF_UP | unix.IFF_NOARP},
	} {
		r, err := unix.NewIfreq(d.device)
		if err != nil {
			return err
		}
		r.SetUint32(uint32(each.value)) // the flags are its lower half on the machines that this runs on
		if err := unix.IoctlIfreq(fd, each.request, r); err != nil {
			return err
		}
	}
	return nil
}

// openSender opens a socket that sends frames out by a link and receives none
// (packet(7), protocol 0). The mark lets them pass the hook.
func openSender(index int, mark uint32) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "packet socket")
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index}),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)),
	)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("set up a packet socket: %w", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer) // as much as net.core.wmem_max allows
	}
	return f, nil
}

// order is what the helper is told of d, and the files that come with it, of
// which the first has this place.
func (d *device) order(place int) (l queue.Lane, files []int) {
	l = queue.Lane{Link: d.link.Name, Index: d.link.Index, Ingress: d.ingress, Header: d.header, Merge: d.merge && d.header > 0, Out: -1, Stamp: -1}
	add := func(fd int) int {
		files = append(files, fd)
		return place + len(files) - 1
	}
	l.TAP = add(int(d.tap.Fd()))
	if d.out != nil {
		l.Out = add(int(d.out.Fd()))
	}
	if d.stamp != nil {
		l.Stamp = add(d.stamp.FD())
	}
	return l, files
}
