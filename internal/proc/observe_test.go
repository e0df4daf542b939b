package proc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

func observe(t *testing.T, target experiment.Target) []experiment.Observation {
	t.Helper()
	list, err := Host().Observe(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// flat gives all facts as one list, each with its object's kind.
func flat(list []experiment.Observation) (lines []string) {
	for _, o := range list {
		for _, line := range o.Lines {
			lines = append(lines, o.Object+" "+line)
		}
	}
	return lines
}

func TestObserveTwiceIsEqual(t *testing.T) {
	t.Parallel()
	pid := inNamespaces(t, syscall.CLONE_NEWNET|syscall.CLONE_NEWNS)
	got := target(t, pid)
	first := observe(t, got)
	time.Sleep(50 * time.Millisecond)
	if diff := cmp.Diff(first, observe(t, got)); diff != "" {
		t.Error(diff)
	}
	for _, object := range []string{"net:", "mnt:", "cgroup:", "process:"} {
		if !slices.ContainsFunc(first, func(o experiment.Observation) bool {
			return strings.HasPrefix(o.Object, object) && len(o.Lines) > 0 && slices.IsSorted(o.Lines)
		}) {
			t.Errorf("nothing sorted about %s", object)
		}
	}
	for _, line := range flat(first) {
		if strings.Contains(line, "unreadable") {
			t.Error(line)
		}
	}
}

// change applies do in the network namespace of a fresh process, and returns
// the lines that are new since, without their object. It reads twice after
// the change, and wants both equal.
func change(t *testing.T, before, do func(*netlink.Handle) error) (added []string) {
	t.Helper()
	pid := inNamespaces(t, syscall.CLONE_NEWNET)
	in := func(f func(*netlink.Handle) error) {
		t.Helper()
		err := Do(Host().path(pid, "ns", "net"), func() error {
			h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer h.Close()
			return f(h)
		})
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) {
			t.Skip("this kernel lacks what the test changes:", err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	in(before)
	got := target(t, pid)
	first := flat(observe(t, got))
	in(do)
	second := flat(observe(t, got))
	if diff := cmp.Diff(second, flat(observe(t, got))); diff != "" {
		t.Error("two reads of the same state:", diff)
	}
	for _, line := range second {
		if !slices.Contains(first, line) {
			_, line, _ = strings.Cut(line, " ")
			added = append(added, line)
		}
	}
	return added
}

const device = "sm0"

// bridged makes a link that is up and has an address.
func bridged(h *netlink.Handle) error {
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: device, MTU: 1500}}
	if err := h.LinkAdd(link); err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 9, 8, 1), Mask: net.CIDRMask(24, 32)}}
	return errors.Join(h.AddrAdd(link, address), h.LinkSetUp(link))
}

// index returns the index of the test's link.
func index(h *netlink.Handle) int {
	link, err := h.LinkByName(device)
	if err != nil {
		return 0
	}
	return link.Attrs().Index
}

func nothing(*netlink.Handle) error { return nil }

func shaped(h *netlink.Handle) error {
	if err := bridgedOnce(h); err != nil {
		return err
	}
	root := netlink.NewHtb(netlink.QdiscAttrs{LinkIndex: index(h), Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT})
	class := netlink.NewHtbClass(netlink.ClassAttrs{LinkIndex: index(h), Parent: root.Handle, Handle: netlink.MakeHandle(1, 5)},
		netlink.HtbClassAttrs{Rate: 8_000_000})
	filter := &netlink.U32{FilterAttrs: netlink.FilterAttrs{
		LinkIndex: index(h), Parent: root.Handle, Priority: 7, Protocol: unix.ETH_P_IP,
	}, ClassId: class.Handle, Sel: &netlink.TcU32Sel{Flags: netlink.TC_U32_TERMINAL, Keys: []netlink.TcU32Key{{Val: 0x0a090801, Mask: 0xffffffff, Off: 16}}}}
	if err := errors.Join(h.QdiscAdd(root), h.ClassAdd(class)); err != nil {
		return err
	}
	return h.FilterAdd(filter)
}

func bridgedOnce(h *netlink.Handle) error {
	if index(h) != 0 {
		return nil
	}
	return bridged(h)
}

func redirected(h *netlink.Handle) error {
	clsact := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index(h), Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0)}}
	filter := &netlink.U32{FilterAttrs: netlink.FilterAttrs{
		LinkIndex: index(h), Parent: netlink.HANDLE_MIN_INGRESS, Priority: 3, Protocol: unix.ETH_P_ALL,
	}, Actions: []netlink.Action{netlink.NewMirredAction(index(h))}}
	if err := h.QdiscAdd(clsact); err != nil {
		return err
	}
	return h.FilterAdd(filter)
}

func TestObserveNetworkChange(t *testing.T) {
	tests := []struct {
		name       string
		before, do func(*netlink.Handle) error
		want       []string // the beginning of a new line each
	}{
		{
			"link", nothing, bridged,
			[]string{"link sm0 index", "address 10.9.8.1/24 on sm0", "route 10.9.8.0/24 via sm0", "route 10.9.8.1/32 via sm0"},
		},
		{"mtu", bridged, func(h *netlink.Handle) error {
			return h.LinkSetMTU(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index(h)}}, 1234)
		}, []string{"link sm0"}},
		{"link down", bridged, func(h *netlink.Handle) error {
			return h.LinkSetDown(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index(h)}})
		}, []string{"link sm0"}},
		{"route", bridged, func(h *netlink.Handle) error {
			return h.RouteAdd(&netlink.Route{LinkIndex: index(h), Dst: &net.IPNet{IP: net.IPv4(10, 1, 0, 0), Mask: net.CIDRMask(16, 32)}, Gw: net.IPv4(10, 9, 8, 7)})
		}, []string{"route 10.1.0.0/16 via sm0"}},
		{"route of another table", bridged, func(h *netlink.Handle) error {
			return h.RouteAdd(&netlink.Route{Table: 812, Type: unix.RTN_BLACKHOLE, Dst: &net.IPNet{IP: net.IPv4(10, 2, 0, 0), Mask: net.CIDRMask(16, 32)}})
		}, []string{"route 10.2.0.0/16"}},
		{"IPv6 route", bridged, func(h *netlink.Handle) error {
			return h.RouteAdd(&netlink.Route{LinkIndex: index(h), Dst: &net.IPNet{IP: net.ParseIP("fd00:1::"), Mask: net.CIDRMask(64, 128)}})
		}, []string{"route fd00:1::/64 via sm0"}},
		{"rule", nothing, func(h *netlink.Handle) error {
			rule := netlink.NewRule()
			rule.Table, rule.Priority, rule.Family = 812, 99, netlink.FAMILY_V4
			return h.RuleAdd(rule)
		}, []string{"rule family 2"}},
		{"qdisc", bridged, func(h *netlink.Handle) error {
			return h.QdiscAdd(&netlink.Tbf{
				QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index(h), Handle: netlink.MakeHandle(9, 0), Parent: netlink.HANDLE_ROOT},
				Rate:       1_000_000, Limit: 10_000, Buffer: 10_000,
			})
		}, []string{"qdisc tbf on sm0 handle 9:0 parent root"}},
		{
			"class and filter", bridged, shaped,
			[]string{"qdisc htb on sm0 handle 1:0", "class htb on sm0 handle 1:5", "filter u32 on sm0"},
		},
		{"rate of a class", shaped, func(h *netlink.Handle) error {
			return h.ClassChange(netlink.NewHtbClass(
				netlink.ClassAttrs{LinkIndex: index(h), Parent: netlink.MakeHandle(1, 0), Handle: netlink.MakeHandle(1, 5)},
				netlink.HtbClassAttrs{Rate: 16_000_000}))
		}, []string{"class htb on sm0 handle 1:5"}},
		{"redirected on the way in", bridged, redirected, []string{"qdisc clsact on sm0", "filter u32 on sm0 parent ffff:fff2 priority 3"}},
		{"nft table", nothing, addNFT, []string{
			"nft table inet simian_test", "nft chain inet simian_test in type filter hook 1 priority -7",
			"nft rule inet simian_test in: counter · immediate", "nft set inet simian_test ports", "nft element inet simian_test ports key=",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			added := change(t, test.before, test.do)
			for _, want := range test.want {
				if !slices.ContainsFunc(added, func(line string) bool { return strings.HasPrefix(line, want) }) {
					t.Errorf("no line begins with %q in\n%s", want, strings.Join(added, "\n"))
				}
			}
			if testing.Verbose() {
				t.Log("\n" + strings.Join(added, "\n"))
			}
		})
	}
}

// addNFT makes a table with a chain, a rule that counts and accepts, and a set
// of one element, in one transaction.
func addNFT(*netlink.Handle) error {
	text := func(s string) []byte { return append([]byte(s), 0) }
	number := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	nested := func(kind int, attrs ...*nl.RtAttr) *nl.RtAttr {
		outer := nl.NewRtAttr(kind|unix.NLA_F_NESTED, nil)
		for _, a := range attrs {
			outer.AddChild(a)
		}
		return outer
	}
	attr := nl.NewRtAttr
	hook := nested(unix.NFTA_CHAIN_HOOK, attr(unix.NFTA_HOOK_HOOKNUM, number(1)), attr(unix.NFTA_HOOK_PRIORITY, number(0xfffffff9)))
	counter := nested(unix.NFTA_LIST_ELEM, attr(unix.NFTA_EXPR_NAME, text("counter")), nested(unix.NFTA_EXPR_DATA))
	accept := nested(unix.NFTA_LIST_ELEM, attr(unix.NFTA_EXPR_NAME, text("immediate")), nested(unix.NFTA_EXPR_DATA,
		attr(unix.NFTA_IMMEDIATE_DREG, number(0)),
		nested(unix.NFTA_IMMEDIATE_DATA, nested(unix.NFTA_DATA_VERDICT, attr(unix.NFTA_VERDICT_CODE, number(1))))))
	element := nested(unix.NFTA_LIST_ELEM, nested(unix.NFTA_SET_ELEM_KEY, attr(unix.NFTA_DATA_VALUE, []byte{0, 80})))
	table := "simian_test"
	return batch([][]any{
		{unix.NFT_MSG_NEWTABLE, attr(unix.NFTA_TABLE_NAME, text(table))},
		{unix.NFT_MSG_NEWCHAIN, attr(unix.NFTA_CHAIN_TABLE, text(table)), attr(unix.NFTA_CHAIN_NAME, text("in")), hook, attr(unix.NFTA_CHAIN_TYPE, text("filter"))},
		{unix.NFT_MSG_NEWRULE, attr(unix.NFTA_RULE_TABLE, text(table)), attr(unix.NFTA_RULE_CHAIN, text("in")), nested(unix.NFTA_RULE_EXPRESSIONS, counter, accept)},
		{unix.NFT_MSG_NEWSET, attr(unix.NFTA_SET_TABLE, text(table)), attr(unix.NFTA_SET_NAME, text("ports")), attr(unix.NFTA_SET_KEY_TYPE, number(13)), attr(unix.NFTA_SET_KEY_LEN, number(2)), attr(unix.NFTA_SET_ID, number(1)), attr(unix.NFTA_SET_FLAGS, number(0))},
		{unix.NFT_MSG_NEWSETELEM, attr(unix.NFTA_SET_ELEM_LIST_TABLE, text(table)), attr(unix.NFTA_SET_ELEM_LIST_SET, text("ports")), nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, element)},
	})
}

// batch sends messages (a type and its attributes) as one transaction.
func batch(messages [][]any) error {
	var data []byte
	add := func(kind int, family byte, resource uint16, flags int, attrs []any) {
		r := nl.NewNetlinkRequest(kind, flags)
		r.AddData(&nl.Nfgenmsg{NfgenFamily: family, ResId: resource})
		for _, a := range attrs {
			r.AddData(a.(*nl.RtAttr))
		}
		data = append(data, r.Serialize()...)
	}
	const subsystem = unix.NFNL_SUBSYS_NFTABLES
	swapped := uint16(subsystem) // Nfgenmsg writes it in network order
	add(unix.NFNL_MSG_BATCH_BEGIN, 0, swapped, 0, nil)
	for _, m := range messages {
		add(subsystem<<8|m[0].(int), unix.NFPROTO_INET, 0, unix.NLM_F_CREATE|unix.NLM_F_ACK, m[1:])
	}
	add(unix.NFNL_MSG_BATCH_END, 0, swapped, 0, nil)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, data, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for range messages {
		reply := make([]byte, 4096)
		n, _, err := unix.Recvfrom(fd, reply, 0)
		if err != nil || n < 20 {
			return fmt.Errorf("read reply of %d bytes: %w", n, err)
		}
		if code := int32(binary.NativeEndian.Uint32(reply[16:])); code != 0 {
			return syscall.Errno(-code)
		}
	}
	return nil
}

func TestObserveFreezer(t *testing.T) {
	for controller, knob := range map[string][3]string{
		"":        {"cgroup.freeze", "1", "cgroup.freeze 1"},
		"freezer": {"freezer.state", "FROZEN", "freezer.state FROZEN"},
		"memory":  {"memory.limit_in_bytes", "8388608", "memory.limit_in_bytes 8388608"},
	} {
		t.Run("hierarchy "+controller, func(t *testing.T) {
			dir := makeCgroup(t, controller, "observe")
			pid := sleeper(t)
			join(t, dir, pid)
			got := target(t, pid)
			first := flat(observe(t, got))
			put(t, filepath.Join(dir, knob[0]), knob[1])
			thaw := map[string]string{"cgroup.freeze": "0", "freezer.state": "THAWED"}[knob[0]]
			t.Cleanup(func() {
				if thaw != "" { // or the sleeper can't be killed
					_ = os.WriteFile(filepath.Join(dir, knob[0]), []byte(thaw), 0o644)
				}
			})
			want := "cgroup:" + dir + " " + knob[2]
			await(t, func() bool { return slices.Contains(flat(observe(t, got)), want) })
			if slices.Contains(first, want) {
				t.Error("it was so before")
			}
			if thaw == "" {
				return
			}
			put(t, filepath.Join(dir, knob[0]), thaw)
			await(t, func() bool { return cmp.Equal(first, flat(observe(t, got))) })
		})
	}
}

func TestObserveProcessChange(t *testing.T) {
	t.Parallel()
	pid := sleeper(t)
	got := target(t, pid)
	object := got.PIDs[0].Handle() + " "
	first := flat(observe(t, got))
	for _, want := range []string{"state running", "nice 0"} {
		if !slices.Contains(first, object+want) {
			t.Errorf("no line %q in\n%s", want, strings.Join(first, "\n"))
		}
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return slices.Contains(flat(observe(t, got)), object+"state stopped") })
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return cmp.Equal(first, flat(observe(t, got))) })
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, pid, 5); err != nil {
		t.Fatal(err)
	}
	put(t, "/proc/"+strconv.Itoa(pid)+"/oom_score_adj", "300")
	limit := unix.Rlimit{Cur: 77, Max: 99}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	second := flat(observe(t, got))
	for _, want := range []string{"nice 5", "oom_score_adj 300", "limit Max open files 77 99 files"} {
		if !slices.Contains(second, object+want) {
			t.Errorf("no line %q in\n%s", want, strings.Join(second, "\n"))
		}
	}
}

func TestObserveMountChange(t *testing.T) {
	t.Parallel()
	pid := inNamespaces(t, syscall.CLONE_NEWNS)
	got := target(t, pid)
	first := flat(observe(t, got))
	dir := t.TempDir()
	err := Do(Host().path(pid, "ns", "mnt"), func() error {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		return unix.Mount("none", dir, "tmpfs", 0, "")
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range flat(observe(t, got)) {
		if strings.Contains(line, "mount "+dir+" tmpfs") && !slices.Contains(first, line) {
			return
		}
	}
	t.Error("the mount is not seen")
}

func TestObserveWhatIsGone(t *testing.T) {
	t.Parallel()
	needRoot(t)
	pid := inNamespaces(t, syscall.CLONE_NEWNET)
	got := target(t, pid)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return !Host().Alive(got.PIDs[0]) })
	for _, o := range observe(t, got) {
		if !strings.HasPrefix(o.Object, "cgroup:") {
			t.Errorf("still observed: %s %v", o.Object, o.Lines)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Host().Observe(ctx, got); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestCondense(t *testing.T) {
	t.Parallel()
	lines := make([]string, mostLines+3)
	for i := range lines {
		lines[i] = fmt.Sprintf("%06d", i)
	}
	if got := condense(lines[:mostLines]); len(got) != mostLines {
		t.Error(len(got))
	}
	got := condense(lines)
	if len(got) != mostLines+1 || !strings.HasPrefix(got[mostLines], "… and 3 more, sha256 ") {
		t.Error(len(got), got[len(got)-1])
	}
	last := got[mostLines]
	lines[len(lines)-1] = "changed"
	if got := condense(lines); got[mostLines] == last {
		t.Error("a change beyond the limit is not seen")
	}
}

func TestFact(t *testing.T) {
	t.Parallel()
	type inner struct{ Rate, Packets int }
	size := 7
	got := fact(struct {
		Name    string
		Data    []byte
		IP      net.IP
		Zero    int
		Pointer *int
		List    []inner
		Any     any
		hidden  int
	}{"x y", []byte{1, 0xab}, net.IPv4(10, 0, 0, 1), 0, &size, []inner{{1, 99}, {2, 0}}, inner{3, 4}, 5}, "Packets")
	want := `Name="x y" Data=0x01ab IP=10.0.0.1 Pointer=7 List=[inner{Rate=1} inner{Rate=2}] Any=inner{Rate=3}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func BenchmarkObserve(b *testing.B) {
	got, err := Host().Target(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Host().Observe(b.Context(), got); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadNet(b *testing.B) {
	for b.Loop() {
		if _, err := readNet(); err != nil {
			b.Fatal(err)
		}
	}
}
