package filter

import (
	"net/netip"
	"strconv"
	"strings"
)

// What the C library bounds (resolv.h, resolv.conf(5)).
const (
	maxServers = 3
	maxSearch  = 32 // it has no bound any more; nobody has more
	maxNDots   = 15
)

// resolvConf is what of resolv.conf(5) matters here.
type resolvConf struct {
	servers []netip.Addr
	search  []string // without a dot at the end
	ndots   int
}

// parseResolvConf reads the file as the C library does: what it does not
// understand, it leaves out.
func parseResolvConf(text string) resolvConf {
	c := resolvConf{ndots: 1}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch rest := words[1:]; words[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(rest[0]); err == nil && len(c.servers) < maxServers {
				c.servers = append(c.servers, a.Unmap())
			}
		case "domain": // of domain and search the last one counts
			c.search = searched(rest[:1])
		case "search":
			c.search = searched(rest)
		case "options":
			c.options(rest)
		}
	}
	if c.servers == nil {
		c.servers = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return c
}

func searched(words []string) []string {
	var list []string
	for _, w := range words[:min(len(words), maxSearch)] {
		if w = strings.TrimSuffix(w, "."); checkHost(w) == nil {
			list = append(list, w)
		}
	}
	return list
}

func (c *resolvConf) options(words []string) {
	for _, w := range words {
		text, found := strings.CutPrefix(w, "ndots:")
		if n, err := strconv.Atoi(text); found && err == nil && n >= 0 {
			c.ndots = min(n, maxNDots)
		}
	}
}

// candidates are the full names that a host may mean, in the order in which
// they are asked for. They end with a dot.
func (c resolvConf) candidates(host string) []string {
	if strings.HasSuffix(host, ".") {
		return []string{host}
	}
	var names []string
	for _, domain := range c.search {
		if name := host + "." + domain + "."; checkHost(name) == nil {
			names = append(names, name)
		}
	}
	if strings.Count(host, ".") >= c.ndots {
		return append([]string{host + "."}, names...)
	}
	return append(names, host+".")
}

// parseHosts reads hosts(5): all the addresses of each name.
func parseHosts(text string) map[string][]netip.Addr {
	hosts := map[string][]netip.Addr{}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		a, err := netip.ParseAddr(words[0])
		if err != nil {
			continue
		}
		for _, name := range words[1:] {
			hosts[plainName(name)] = append(hosts[plainName(name)], a.Unmap().WithZone(""))
		}
	}
	return hosts
}

// plainName makes what people and DNS write the same.
func plainName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
