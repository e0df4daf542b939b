package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// NetworkOf returns t's network namespace with its cookie, where the kernel
// gives one (SO_NETNS_COOKIE, socket(7), since Linux 5.14).
func (f FS) NetworkOf(t experiment.Target) (experiment.Namespace, error) {
	ns := t.Net
	if ns.Inode == 0 {
		return ns, fmt.Errorf("%s has no network namespace that can be entered: %w", t.Name, experiment.ErrUnsupported)
	}
	err := f.InNetwork(ns, func() (err error) {
		ns.Cookie, err = netCookie()
		return err
	})
	return ns, err
}

// HostNetwork tells whether ns is the network namespace of this process.
func (f FS) HostNetwork(ns experiment.Namespace) bool {
	own, err := inodeOf("/proc/self/ns/net")
	return err == nil && own == ns.Inode
}

// netCookie asks for the cookie of this thread's network namespace; 0 where
// the kernel knows none.
func netCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
		return 0, fmt.Errorf("ask for the namespace's cookie: %w", err)
	}
	return cookie, nil
}

// InNetwork runs fn on a thread in the network namespace ns. Where the process
// it was found by is gone, another in it serves, or a file that it is mounted
// on. It gives experiment.ErrGone where the namespace is there no more.
func (f FS) InNetwork(ns experiment.Namespace, fn func() error) error {
	fd, err := f.openNet(ns)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return doIn(fd, "network namespace "+strconv.FormatUint(ns.Inode, 10), func() error {
		if ns.Cookie != 0 {
			if now, err := netCookie(); err != nil || now != ns.Cookie {
				return errors.Join(err, fmt.Errorf("network namespace %d is another one now: %w", ns.Inode, experiment.ErrGone))
			}
		}
		return fn()
	})
}

// openNet opens ns by its process, or however else it can be found.
func (f FS) openNet(ns experiment.Namespace) (int, error) {
	fd, err := openInode(f.path(ns.Via.PID, "ns", "net"), ns.Inode)
	if err == nil && f.Alive(ns.Via) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return fd, err
	}
	if err == nil {
		_ = unix.Close(fd)
	}
	if ns.Cookie == 0 { // an inode alone may be another's by now
		return -1, fmt.Errorf("the network namespace of %s: %w", ns.Via, experiment.ErrGone)
	}
	for _, path := range f.netPaths(ns.Inode) {
		if fd, err := openInode(path, ns.Inode); err == nil {
			return fd, nil
		}
	}
	return -1, fmt.Errorf("network namespace %d: %w", ns.Inode, experiment.ErrGone)
}

// netPaths lists where a network namespace may be found: processes in it, and
// files that it is mounted on (ip-netns(8)).
func (f FS) netPaths(inode uint64) []string {
	var paths []string
	pids, _ := f.PIDs()
	for _, pid := range pids {
		if path := f.path(pid, "ns", "net"); isInode(path, inode) {
			paths = append(paths, path)
		}
	}
	mounted := fmt.Sprintf("net:[%d]", inode)
	table, _ := os.ReadFile(filepath.Join(f.Proc, "self", "mountinfo"))
	for line := range strings.Lines(string(table)) {
		if m, err := parseMount(line); err == nil && m.root == mounted {
			paths = append(paths, m.point)
		}
	}
	return paths
}

func isInode(path string, inode uint64) bool {
	now, err := inodeOf(path)
	return err == nil && now == inode
}

// openInode opens a namespace file, and checks that it is the one meant.
func openInode(path string, inode uint64) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != inode {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("%s is another namespace now: %w", path, experiment.ErrGone)
	}
	return fd, nil
}
