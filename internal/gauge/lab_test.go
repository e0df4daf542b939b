package gauge

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// The addresses of a pair: the far end's, and those that nobody has but that
// have a link address, so that what is sent there gets no answer of any kind.
var (
	far     = map[string]netip.Addr{"IPv4": netip.MustParseAddr("10.204.0.2"), "IPv6": netip.MustParseAddr("fd00:204::2")}
	nowhere = map[string]netip.Addr{"IPv4": netip.MustParseAddr("10.204.0.99"), "IPv6": netip.MustParseAddr("fd00:204::99")}
)

// pair is two network namespaces joined by a veth, v in both.
type pair struct {
	near, far experiment.Namespace
	pid       int    // what near was found by
	end       func() // ends it, and near with it
}

func newPair(t testing.TB) pair {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs iproute2: ", err)
	}
	near, end := newNamespace(t)
	other, _ := newNamespace(t)
	run(t, near, "ip", "link", "add", "v", "type", "veth", "peer", "name", "v", "netns", strconv.Itoa(other.Via.PID))
	for ns, host := range map[experiment.Namespace]string{near: "1", other: "2"} {
		for _, line := range []string{
			"link set lo up", "addr add 10.204.0." + host + "/24 dev v", "addr add fd00:204::" + host + "/64 dev v nodad",
			"link set v address 02:00:00:00:00:0" + host, "link set v addrgenmode none up",
			"addr add fe80::" + host + "/64 dev v nodad",
			"neigh add 10.204.0.99 lladdr 02:00:00:00:00:99 dev v", "neigh add fd00:204::99 lladdr 02:00:00:00:00:99 dev v",
		} {
			run(t, ns, "ip", strings.Fields(line)...)
		}
	}
	return pair{near, other, near.Via.PID, end}
}

func newNamespace(t testing.TB) (ns experiment.Namespace, end func()) {
	t.Helper()
	cmd := exec.Command("sleep", "300")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(end)
	ns, err := proc.Host().Namespace(cmd.Process.Pid, "net")
	if err != nil {
		t.Fatal(err)
	}
	return ns, end
}

// run runs a command in ns.
func run(t testing.TB, ns experiment.Namespace, name string, args ...string) {
	t.Helper()
	err := proc.Host().InNetwork(ns, func() error {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Logf("%s %s: %s", name, strings.Join(args, " "), out)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// listen answers TCP at the far end, and returns the port.
func (p pair) listen(t testing.TB) uint16 {
	t.Helper()
	var l net.Listener
	err := proc.Host().InNetwork(p.far, func() (err error) {
		l, err = net.Listen("tcp", "[::]:0") // IPv4 too
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return uint16(l.Addr().(*net.TCPAddr).Port)
}
