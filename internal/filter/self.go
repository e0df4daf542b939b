package filter

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// peer is who must not be cut off, and why.
type peer struct {
	netip.Addr
	what string
}

// String gives 10.0.0.2 (the resolver).
func (p peer) String() string { return fmt.Sprintf("%s (%s)", p.Addr, p.what) }

// spareSelf adds to what is excluded whom this process needs in the network
// that it shares with the target.
func (r *matcher) spareSelf(ctx context.Context, m *Match, except *netipx.IPSet) (*netipx.IPSet, error) {
	peers, err := r.self(ctx)
	if err != nil {
		return nil, fmt.Errorf("find what this process itself needs (allowSelf: true goes without): %w", err)
	}
	if len(peers) == 0 {
		return except, nil
	}
	var b netipx.IPSetBuilder
	for _, p := range peers {
		b.Add(p.Addr)
	}
	own, err := b.IPSet()
	if err != nil {
		return nil, err
	}
	all, err := union(except, own)
	if err != nil {
		return nil, err
	}
	m.Except.Far = all.Prefixes()
	m.Notes = append(m.Notes, "left alone: "+few(peers)+"; allowSelf: true does not spare them")
	return all, nil
}

// self lists who is at the other end of this session, the resolvers of the
// host, and Kubernetes' API server.
func (r *matcher) self(ctx context.Context) ([]peer, error) {
	var peers []peer
	add := func(what string, list ...netip.Addr) {
		for _, a := range list {
			p := peer{a.Unmap().WithZone(""), what}
			if !a.IsLoopback() && !slices.Contains(peers, p) {
				peers = append(peers, p)
			}
		}
	}
	for _, connection := range r.env("SSH_CONNECTION") { // client, its port, server, its port (ssh(1))
		client, _, _ := strings.Cut(connection, " ")
		if a, err := netip.ParseAddr(client); err == nil {
			add("this session", a)
		}
	}
	// Behind systemd-resolved's own address are those that it asks.
	for _, name := range []string{"etc/resolv.conf", "run/systemd/resolve/resolv.conf"} {
		text, err := readBelow(r.root, name)
		if err != nil {
			return nil, err
		}
		add("the resolver", parseResolvConf(string(text)).servers...)
	}
	for _, host := range r.env("KUBERNETES_SERVICE_HOST") {
		list, err := r.apiServer(ctx, host)
		if err != nil {
			return nil, err
		}
		add("the API server", list...)
	}
	return peers, nil
}

// apiServer returns the addresses of the API server, which goes by an address
// nearly everywhere.
func (r *matcher) apiServer(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	resolver, err := newResolver(r.fs, r.root, experiment.ProcessID{}, r.net)
	if err != nil {
		return nil, err
	}
	return resolver.lookup(ctx, host)
}

// ancestry looks a variable up in the environment of this process and of those
// above it: sudo(8) hides from a command that it was called over ssh.
func ancestry(fs proc.FS) func(name string) []string {
	return func(name string) []string {
		var values []string
		if v := os.Getenv(name); v != "" {
			values = append(values, v)
		}
		for pid := os.Getppid(); pid > 0; {
			environ, _ := os.ReadFile(filepath.Join(fs.Proc, strconv.Itoa(pid), "environ")) // another user's cannot be read
			for entry := range strings.SplitSeq(string(environ), "\x00") {
				if v, found := strings.CutPrefix(entry, name+"="); found && v != "" && !slices.Contains(values, v) {
					values = append(values, v)
				}
			}
			parent, err := fs.Stat(pid)
			if err != nil {
				break
			}
			pid = parent.PPID
		}
		return values
	}
}
