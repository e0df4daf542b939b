package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/simianhq/simian/"

// only says where a dependency may be used, besides in tests.
var only = map[string][]string{
	"github.com/vishvananda/netlink":         {"internal/op", "internal/proc", "internal/labnet", "bench/launch", "test/soak"},
	"github.com/google/nftables":             {"test/soak"},
	"go4.org/netipx":                         {"internal/filter"},
	"github.com/containerd/cgroups":          {"internal/op", "internal/proc", "internal/box"},
	"github.com/containerd/containerd":       {"internal/image", "internal/runtime"},
	"github.com/moby/moby":                   {"internal/image", "internal/runtime"},
	"k8s.io/cri-api":                         {"internal/runtime"},
	"github.com/google/go-containerregistry": {"internal/image"},
	"github.com/compose-spec/compose-go":     {"targets/native"},
	"github.com/cilium/ebpf":                 {"internal/box", "internal/op"},
	"github.com/miekg/dns":                   {"internal/labnet", "internal/filter"},
	"golang.org/x/net/dns":                   {"internal/dnsrelay", "internal/op", "monkeys/chaos"},
	"github.com/elastic/go-seccomp-bpf":      {"internal/seccomp"},
	"github.com/moby/profiles":               {"internal/seccomp", "bench/launch"},
	"k8s.io/client-go":                       {"internal/kube"},
	"k8s.io/api":                             {"internal/kube"},
	"k8s.io/apimachinery":                    {"internal/kube", "targets/match", "targets/pod"},
	"github.com/robfig/cron":                 {"scheduler"},
	"modernc.org/sqlite":                     {"internal/journal"},
	"github.com/spf13/cobra":                 {"cmd/simian"},
	"github.com/tsenart/vegeta":              {"internal/probe"},
	"github.com/coreos/go-systemd":           {"internal/guard"},
	"github.com/google/jsonschema-go":        {"experiment"},
	"go.yaml.in/yaml":                        {"experiment", "targets/native"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

// TestLayout holds the table of docs/architecture.md against the module.
func TestLayout(t *testing.T) {
	t.Parallel()
	allowed := layoutTable(t)
	seen := map[string]bool{}
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		seen[name] = true
		may, ok := allowed[name]
		if !ok {
			t.Errorf("%s has no row in docs/architecture.md", name)
			continue
		}
		for _, imp := range p.Imports {
			checkImport(t, name, may, imp)
		}
	}
	for name := range allowed {
		if !seen[name] {
			t.Errorf("docs/architecture.md has a row for %s, which is no package", name)
		}
	}
}

func checkImport(t *testing.T, name string, may []string, imp string) {
	t.Helper()
	if ours, ok := strings.CutPrefix(imp, module); ok {
		if !slices.Contains(may, "all") && !slices.Contains(may, ours) {
			t.Errorf("%s imports %s, which its row in docs/architecture.md does not allow", name, ours)
		}
		return
	}
	if slices.Contains([]string{"internal/stage", "internal/helper", "internal/burn", "internal/exhaust", "internal/httprelay", "internal/queue", "internal/impair", "internal/vdso"}, name) && strings.Contains(strings.Split(imp, "/")[0], ".") {
		t.Errorf("%s imports %s: the standard library only", name, imp)
	}
	for dep, where := range only {
		if (imp == dep || strings.HasPrefix(imp, dep+"/")) && !slices.Contains(where, name) {
			t.Errorf("%s imports %s, which belongs to %s", name, imp, strings.Join(where, ", "))
		}
	}
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir, cmd.Stderr = "../..", os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []goPackage
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

var (
	row  = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|[^|]*\\|([^|]*)\\|$")
	word = regexp.MustCompile("`([^`]+)`|all")
)

func layoutTable(t *testing.T) map[string][]string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	table := map[string][]string{}
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		table[m[1]] = nil
		for _, w := range word.FindAllStringSubmatch(m[2], -1) {
			table[m[1]] = append(table[m[1]], strings.Trim(w[0], "`"))
		}
	}
	if len(table) == 0 {
		t.Fatal("docs/architecture.md has no table")
	}
	return table
}
