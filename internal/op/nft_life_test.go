package op

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/filter"
)

// tables lists the tables of the target's namespace.
func (l *nftLab) tables() []nftTable {
	l.t.Helper()
	var there []nftTable
	l.inTarget(func() error {
		fd, err := openNft()
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		there, err = findTables(fd, "")
		return err
	})
	return there
}

func TestNftConformance(t *testing.T) {
	t.Parallel()
	catalog := func(h *Host) experiment.Catalog[experiment.Op] {
		return experiment.Catalog[experiment.Op]{
			"nft":      func() experiment.Op { return &Table{host: h} },
			"nft-gone": func() experiment.Op { return &NftGone{host: h} },
		}
	}
	for _, kind := range []string{ActDrop, ActReject} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := NewHost(host)
			var l *nftLab
			experimenttest.Op(t, experimenttest.OpCase{
				Ops: catalog(h),
				Step: func(t testing.TB) experiment.Step {
					l = newNftLab(t)
					l.h = h
					table := l.table(rich(), TableAct{Kind: kind})
					t.Cleanup(func() { _ = table.Gone().Apply(t.Context()) })
					return experiment.Step{Do: table, Undo: table.Gone()}
				},
				Snapshot: func() string {
					if l.target.ProcessState != nil {
						return ""
					}
					return fmt.Sprint(l.tables())
				},
				Gone: func(testing.TB) { _ = l.target.Process.Kill(); _ = l.target.Wait() },
			})
		})
	}
}

// holderEnv has the table that a process of its own is to hold.
const holderEnv = "SIMIAN_TEST_NFT_HOLDER"

// TestNftHolder is no test by itself: it is the process that holds a table.
func TestNftHolder(t *testing.T) {
	text := os.Getenv(holderEnv)
	if text == "" {
		return // started by TestNftOwner only
	}
	table := Table{host: NewHost(host)}
	must(t, json.Unmarshal([]byte(text), &table))
	must(t, table.Apply(t.Context()))
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// holder starts a process that makes the table and holds it.
func (l *nftLab) holder(table *Table) *exec.Cmd {
	l.t.Helper()
	text, err := json.Marshal(table)
	must(l.t, err)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestNftHolder$")
	cmd.Env = append(os.Environ(), holderEnv+"="+string(text))
	in, err := cmd.StdinPipe()
	must(l.t, err)
	out, err := cmd.StdoutPipe()
	must(l.t, err)
	must(l.t, cmd.Start())
	l.t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	said := make([]byte, 5)
	_, err = io.ReadFull(out, said)
	must(l.t, err)
	if string(said) != "held\n" {
		l.t.Fatalf("the holder says %q", said)
	}
	return cmd
}

// TestNftOwner holds that a table is its process's own while that lives, and
// goes with it when it is killed.
func TestNftOwner(t *testing.T) {
	t.Parallel()
	l := newNftLab(t)
	table := l.table(filter.Match{Egress: true, Ingress: true}, TableAct{Kind: ActReject})
	if table.Plain {
		t.Skip("tables have no owner before Linux 5.12")
	}
	holder := l.holder(table)
	there := l.tables()
	if len(there) != 1 || there[0].owner != uint32(holder.Process.Pid) {
		t.Fatalf("tables %v, want one that %d owns", there, holder.Process.Pid)
	}
	owner := fmt.Sprintf("owned by the netlink socket with port %d ", holder.Process.Pid)
	for what, err := range map[string]error{"make": table.Apply(t.Context()), "remove": table.Gone().Apply(t.Context())} {
		if !errors.Is(err, experiment.ErrBusy) || !strings.Contains(err.Error(), owner) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if e, err := table.Verify(t.Context()); err != nil || !e.InForce {
		t.Errorf("another process verifies %+v, %v", e, err)
	}
	if e, err := table.Gone().Verify(t.Context()); err != nil || e.InForce || !strings.Contains(e.What, owner) {
		t.Errorf("another process's undo verifies %+v, %v", e, err)
	}
	must(t, holder.Process.Kill())
	_ = holder.Wait()
	await(t, "the table to go", func() bool { return len(l.tables()) == 0 })
	must(t, table.Gone().Apply(t.Context()))
	if e, err := table.Gone().Verify(t.Context()); err != nil || !e.InForce {
		t.Errorf("after it: %+v, %v", e, err)
	}
	if e, err := table.Verify(t.Context()); err != nil || e.InForce || e.What != "no nft table inet simian_test_1" {
		t.Errorf("after it: %+v, %v", e, err)
	}
	must(t, table.Apply(t.Context()))
	must(t, table.Gone().Apply(t.Context()))
}

// TestNftFlush holds that others can't change an owned table, and that what
// they do to one without an owner is found.
func TestNftFlush(t *testing.T) {
	t.Parallel()
	l := newNftLab(t)
	table := l.table(filter.Match{Egress: true}, TableAct{Kind: ActReject})
	must(t, table.Apply(t.Context()))
	gone := table.Gone()
	flush := func() error {
		return host.InNetwork(l.ns, func() error {
			fd, err := openNft()
			if err != nil {
				return err
			}
			defer syscall.Close(fd)
			return sendNft(fd, nftBatch(gone.deletions(gone.Families)))
		})
	}
	if err := flush(); !errors.Is(err, unix.EPERM) && !table.Plain {
		t.Errorf("somebody else's removal gives %v", err)
	}
	if nft, err := exec.LookPath("nft"); err == nil && !table.Plain {
		out, err := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", l.target.Process.Pid), nft, "flush", "ruleset").CombinedOutput()
		t.Logf("nft flush ruleset: %s %v", out, err)
	}
	if e, err := table.Verify(t.Context()); err != nil || !e.InForce {
		t.Errorf("after the flush: %+v, %v", e, err)
	}
	must(t, gone.Apply(t.Context()))

	table.Plain = true
	must(t, table.Apply(t.Context()))
	must(t, NewTable(NewHost(host), l.ns, table.Name, table.Match, table.Act).with(true).Apply(t.Context()))
	e, err := table.Verify(t.Context())
	if err != nil || !e.InForce || !strings.Contains(e.What, "outlives its process") {
		t.Errorf("without an owner: %+v, %v", e, err)
	}
	other := table.Gone()
	other.host = NewHost(host)
	must(t, other.Apply(t.Context()))
	must(t, other.Apply(t.Context()))
	if e, err = table.Verify(t.Context()); err != nil || e.InForce {
		t.Errorf("after another's undo: %+v, %v", e, err)
	}
}

func (t *Table) with(plain bool) *Table { t.Plain = plain; return t }

func TestNftGoneThings(t *testing.T) {
	t.Parallel()
	l := newNftLab(t)
	table := l.table(filter.Match{Egress: true, Ingress: true}, TableAct{Kind: ActDrop})
	wrong := *table
	wrong.Match.Links = []filter.Link{{Name: "eth0", Index: l.link.Index + 40}}
	none := *table
	none.Match.Links = []filter.Link{{Name: "eth9", Index: l.link.Index}}
	for _, bad := range []*Table{&wrong, &none} {
		if err := bad.Apply(t.Context()); !errors.Is(err, experiment.ErrGone) {
			t.Errorf("a link that is another: %v", err)
		}
	}
	must(t, table.Apply(t.Context()))
	l.inTarget(func() error {
		link, err := netlink.LinkByName("eth0")
		if err == nil {
			err = netlink.LinkSetDown(link)
		}
		if err == nil {
			err = netlink.LinkSetName(link, "eth7")
		}
		return err
	})
	e, err := table.Verify(t.Context())
	t.Logf("a link with another name: %+v, %v", e, err)
	if err != nil {
		t.Error(err)
	}
	l.inTarget(func() error {
		link, err := netlink.LinkByName("eth7")
		if err == nil {
			err = netlink.LinkDel(link)
		}
		return err
	})
	if e, err = table.Verify(t.Context()); err != nil || e.InForce || e.Hint == "" {
		t.Errorf("no link: %+v, %v", e, err)
	}
	must(t, table.Gone().Apply(t.Context()))

	again := newNftLab(t)
	table = again.table(filter.Match{Egress: true}, TableAct{Kind: ActDrop})
	must(t, table.Apply(t.Context()))
	_, _ = again.target.Process.Kill(), again.target.Wait()
	if _, err := table.Verify(t.Context()); !errors.Is(err, experiment.ErrGone) {
		t.Errorf("no namespace: Verify gives %v", err)
	}
	if err := table.Gone().Apply(t.Context()); !errors.Is(err, experiment.ErrGone) || table.held() != nil {
		t.Errorf("no namespace: the undo gives %v, and holds %v", err, table.held())
	}
}

func TestNftFreeName(t *testing.T) {
	t.Parallel()
	l := newNftLab(t)
	for i, suffix := range []string{"", IngressSuffix, "", ""} {
		name, err := FreeTableName(l.h, l.ns, "abcd23")
		must(t, err)
		if want := fmt.Sprintf("simian_abcd23_%d", i+1); name != want {
			t.Errorf("got %s, want %s", name, want)
		}
		table := l.table(filter.Match{Egress: true}, TableAct{Kind: ActDrop})
		table.Name = name + suffix
		l.apply(table)
		if i == 2 { // what takes it back may be at it still when the next is made
			must(t, table.Gone().Apply(t.Context()))
		}
	}
}

// TestNftGoneOnlyItsOwn has a table made under the same name while the one
// before is taken back: it stays.
func TestNftGoneOnlyItsOwn(t *testing.T) {
	t.Parallel()
	l := newNftLab(t)
	first := l.table(filter.Match{Egress: true}, TableAct{Kind: ActDrop})
	must(t, first.Apply(t.Context()))
	must(t, first.host.drop(first.Handles()[0]).Close())
	second := *first
	second.host = NewHost(l.h.FS)
	l.apply(&second)
	if err := first.Gone().sweep(true); err != nil {
		t.Error(err)
	}
	if err := first.Gone().sweep(false); !errors.Is(err, experiment.ErrBusy) {
		t.Errorf("another's: %v", err)
	}
	if e, err := second.Verify(t.Context()); err != nil || !e.InForce {
		t.Errorf("the second: %+v, %v", e, err)
	}
}

// TestNftManyRanges holds that 10,000 ranges all come into force.
func TestNftManyRanges(t *testing.T) {
	t.Parallel()
	l := newNftLab(t)
	m := filter.Match{Egress: true}
	m.Far = append(prefixes(peerIP4+"/32"), many(10_000)...)
	table := l.table(m, TableAct{Kind: ActDrop})
	start := time.Now()
	must(t, table.Apply(t.Context()))
	t.Logf("10,000 ranges in force after %s", time.Since(start))
	defer func() { must(t, table.Gone().Apply(t.Context())) }()
	l.inTarget(func() error {
		fd, err := openNft()
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		var ask attrs
		ask.text(unix.NFTA_SET_ELEM_LIST_TABLE, table.Name)
		ask.text(unix.NFTA_SET_ELEM_LIST_SET, "far4")
		pages, err := dumpNft(fd, unix.NFT_MSG_GETSETELEM, table.families()[0], ask)
		n := 0
		for _, p := range pages {
			for range eachAttr(p.parsed[unix.NFTA_SET_ELEM_LIST_ELEMENTS]) {
				n++
			}
		}
		if n != 2*10_001 {
			t.Errorf("%d elements, want 20,002", n)
		}
		return err
	})
	from, to := l.udp(l.target, targetIP4+":0"), l.udp(l.peer, peerIP4+":7000")
	if !l.strikes(table, from, to) {
		t.Error("the range of the peer does not match")
	}
}

// TestNftFollow holds that addresses come into force as names get them.
func TestNftFollow(t *testing.T) {
	t.Parallel()
	l := newNftLab6(t)
	root := t.TempDir()
	must(t, os.Mkdir(root+"/etc", 0o755))
	must(t, os.WriteFile(root+"/etc/resolv.conf", []byte("nameserver 127.0.0.1\n"), 0o644))
	must(t, os.WriteFile(root+"/etc/hosts", []byte("10.9.9.9 db\n"), 0o644))
	m := filter.Match{Egress: true, Criteria: filter.Criteria{Far: prefixes("10.9.9.9/32")}}
	m.Names = &filter.Names{Hosts: []string{"db"}, Root: root, Net: l.ns}
	table := l.apply(l.table(m, TableAct{Kind: ActDrop}))
	from, to := l.udp(l.target, targetIP4+":0"), l.udp(l.peer, peerIP4+":7000")
	from6, to6 := l.udp(l.target, net.JoinHostPort(targetIP6, "0")), l.udp(l.peer, net.JoinHostPort(peerIP6, "7000"))
	if l.strikes(table, from, to) {
		t.Fatal("an address matches that the name does not have")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- table.Follow(ctx) }()
	must(t, os.WriteFile(root+"/etc/hosts", []byte("10.9.9.9 db\n"+peerIP4+" db\n"+peerIP6+" db\n"), 0o644))
	await(t, "the name's new address", func() bool { return l.strikes(table, from, to) && l.strikes(table, from6, to6) })
	await(t, "a note of it", func() bool {
		e, err := table.Verify(t.Context())
		must(t, err)
		return strings.Contains(e.What, "addresses of names changed 1 times")
	})
	cancel()
	must(t, <-done)
}

// TestNftCheck holds that a kernel is asked in a namespace of its own, which
// leaves this thread where it was.
func TestNftCheck(t *testing.T) {
	t.Parallel()
	if unix.Geteuid() != 0 {
		t.Skip("network namespaces can be made by root only")
	}
	table := Table{Name: "simian_test_1", Match: rich(), Act: TableAct{Kind: ActDrop, Percent: 1}, host: NewHost(host)}
	table.Match.Links = []filter.Link{{Name: "eth0", Index: 1 << 20}}
	table.Match.Far = append(table.Match.Far, many(10_000)...)
	slices.SortFunc(table.Match.Far, func(a, b netip.Prefix) int { return a.Compare(b) })
	start := time.Now()
	must(t, CheckNft(&table))
	t.Logf("checked in %s; plain %v, no egress %v", time.Since(start), table.Plain, table.NoEgress)
	table.Act.Kind = "burn"
	if err := CheckNft(&table); !errors.Is(err, experiment.ErrUnsupported) || table.Plain {
		t.Errorf("what no kernel can: %v, plain %v", err, table.Plain)
	}
}

// TestNftOldKernel holds that what CheckNft falls back to works.
func TestNftOldKernel(t *testing.T) {
	t.Parallel()
	l := newNftLab(t)
	table := l.table(filter.Match{Egress: true, Ingress: true}, TableAct{Kind: ActDrop})
	table.Plain, table.NoEgress = true, true
	l.apply(table)
	from, to := l.udp(l.target, targetIP4+":0"), l.udp(l.peer, peerIP4+":7000")
	if !l.strikes(table, from, to) {
		t.Error("nothing is dropped")
	}
	e, err := table.Verify(t.Context())
	if err != nil || !e.InForce || !strings.Contains(e.What, "no owner") || !strings.Contains(e.What, "no egress hook") {
		t.Errorf("Verify gives %+v, %v", e, err)
	}
	must(t, table.Gone().Apply(t.Context()))
	if there := l.tables(); len(there) != 0 {
		t.Errorf("left: %v", there)
	}
}
