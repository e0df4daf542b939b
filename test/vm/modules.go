package main

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// wanted are the modules that the machine has, as patterns of path.Match, or as
// folders of the kernel's tree, which end in a slash. Few are loaded at boot:
// the kernel asks for the others by itself when they are first used, through
// modprobe, as on any Debian.
var wanted = []string{
	"virtio_pci", "virtio_blk", "virtio_console", "ext4", "overlay", "fuse", "loop",
	"kernel/net/", // all protocols, qdiscs, classifiers, actions and nft's expressions
	"veth", "bridge", "br_netfilter", "macvlan", "dummy", "tun", "ifb",
	"sch_netem", "sch_prio", "sch_htb", "sch_tbf", "sch_sfq", "sch_fq", "sch_fq_codel", "sch_ingress",
	"cls_u32", "cls_flower", "cls_matchall", "cls_bpf", "act_mirred", "act_gact",
	"nf_tables", "nft_*", "nf_conntrack_netlink", "nfnetlink_queue",
	"tcp_diag", "udp_diag", "inet_diag", "unix_diag", "af_packet_diag",
}

// atBoot are those that /init loads: of the hardware, for which other systems
// have udev; and br_netfilter, as Docker's hosts have it, where the rules for
// packets that are routed see those of a bridge too.
var atBoot = []string{"virtio_pci", "virtio_blk", "virtio_console", "br_netfilter"}

// tree is what depmod says of a kernel's modules.
type tree struct {
	dir     string
	deps    map[string][]string // path -> the paths it needs; both as in modules.dep
	builtin []string            // paths of those that are part of the kernel
}

// readTree reads modules.dep and modules.builtin of one kernel; modules.dep(5).
func readTree(dir string) (tree, error) {
	t := tree{dir: dir}
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return t, err
	}
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return t, err
	}
	t.deps, t.builtin = parseDep(string(dep)), strings.Fields(string(builtin))
	return t, nil
}

// parseDep reads lines such as "kernel/net/veth.ko: kernel/net/page_pool.ko".
func parseDep(text string) map[string][]string {
	deps := make(map[string][]string)
	for line := range strings.Lines(text) {
		name, needs, found := strings.Cut(line, ":")
		if found {
			deps[strings.TrimSpace(name)] = strings.Fields(needs)
		}
	}
	return deps
}

// closure returns the modules that the patterns name and all they need, each
// after what it needs.
func (t tree) closure(patterns []string) ([]string, error) {
	var order []string
	seen := make(map[string]bool)
	var visit func(string)
	visit = func(p string) {
		if seen[p] {
			return
		}
		seen[p] = true
		for _, need := range t.deps[p] {
			visit(need)
		}
		order = append(order, p)
	}
	for _, pattern := range patterns {
		found := matching(pattern, slices.Sorted(maps.Keys(t.deps)))
		if found == nil && matching(pattern, t.builtin) == nil {
			return nil, fmt.Errorf("kernel in %s has no module %s", t.dir, pattern)
		}
		for _, p := range found {
			visit(p)
		}
	}
	return order, nil
}

// matching returns those of the paths whose module's name matches, or that are
// in the folder.
func matching(pattern string, paths []string) []string {
	var found []string
	for _, p := range paths {
		// The wanted patterns are constants, and well formed.
		ok, _ := path.Match(pattern, moduleName(p))
		if ok || strings.HasSuffix(pattern, "/") && strings.HasPrefix(p, pattern) {
			found = append(found, p)
		}
	}
	return found
}

// moduleName is the name as lsmod has it: files are named with - or _ as they
// please.
func moduleName(p string) string {
	name, _, _ := strings.Cut(path.Base(p), ".")
	return strings.ReplaceAll(name, "-", "_")
}
