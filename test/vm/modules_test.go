package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const dep = `kernel/net/sched/sch_netem.ko:
kernel/net/netfilter/nft_queue.ko: kernel/net/netfilter/nf_tables.ko kernel/net/netfilter/nfnetlink.ko
kernel/net/netfilter/nft_log.ko: kernel/net/netfilter/nf_tables.ko kernel/net/netfilter/nfnetlink.ko
kernel/net/netfilter/nf_tables.ko: kernel/net/netfilter/nfnetlink.ko
kernel/net/netfilter/nfnetlink.ko:
kernel/fs/overlayfs/overlay.ko.xz:
kernel/drivers/net/dash-ed.ko:
kernel/a.ko: kernel/b.ko
kernel/b.ko: kernel/a.ko
`

func TestClosure(t *testing.T) {
	t.Parallel()
	tree := tree{dir: "/m", deps: parseDep(dep), builtin: []string{"kernel/fs/ext4/ext4.ko"}}
	for name, c := range map[string]struct {
		patterns, want, err string
	}{
		"one":                 {patterns: "sch_netem", want: "sch_netem"},
		"what it needs first": {patterns: "nft_queue", want: "nfnetlink nf_tables nft_queue"},
		"each once":           {patterns: "nft_* nf_tables nft_queue", want: "nfnetlink nf_tables nft_log nft_queue"},
		"compressed":          {patterns: "overlay", want: "overlay"},
		"named with a dash":   {patterns: "dash_ed", want: "dash_ed"},
		"built in":            {patterns: "ext4 overlay", want: "overlay"},
		"a circle":            {patterns: "a", want: "b a"},
		"a folder":            {patterns: "kernel/net/sched/ kernel/fs/", want: "sch_netem overlay"},
		"no such folder":      {patterns: "kernel/net/none/", err: "kernel in /m has no module kernel/net/none/"},
		"none":                {patterns: ""},
		"unknown":             {patterns: "overlay sch_cake", err: "kernel in /m has no module sch_cake"},
		"part of a name":      {patterns: "netem", err: "kernel in /m has no module netem"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			paths, err := tree.closure(strings.Fields(c.patterns))
			var got []string
			for _, p := range paths {
				got = append(got, moduleName(p))
			}
			if said := message(err); said != c.err || err == nil && strings.Join(got, " ") != c.want {
				t.Errorf("got %q, error %q; want %q, error %q", got, said, c.want, c.err)
			}
		})
	}
}

func TestParseDep(t *testing.T) {
	t.Parallel()
	got := parseDep("a.ko: b.ko c.ko\nb.ko:\n\nnonsense\n")
	want := map[string][]string{"a.ko": {"b.ko", "c.ko"}, "b.ko": {}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
