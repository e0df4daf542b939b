package filter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

// fault is as a fault of the network is: a filter, and what it does.
type fault struct {
	Filter
	Delay experiment.Duration `json:"delay,omitzero"`
}

func (*fault) Plan(context.Context, experiment.RunID, experiment.Target) ([]experiment.Step, error) {
	return nil, errors.ErrUnsupported
}

// picked is a selector that finds what a test says.
type picked struct {
	Name  string `json:"name,omitempty"`
	found []experiment.Target
}

func (p *picked) Select(context.Context) ([]experiment.Target, error) { return p.found, nil }

// load decodes a fault with these fields, one a line, out of a file.
func load(fields string) (*Filter, error) {
	loader := experiment.Loader{
		Faults:  experiment.Catalog[experiment.Fault]{"test": func() experiment.Fault { return &fault{} }},
		Targets: experiment.Catalog[experiment.Selector]{"picked": func() experiment.Selector { return &picked{} }},
	}
	file := "apiVersion: " + experiment.APIVersion + "\nkind: " + experiment.Kind + "\nmetadata: {name: a}\nspec:\n  method:\n" +
		"  - target: {type: picked}\n    for: 10s\n    fault:\n      type: test\n" +
		"      " + strings.ReplaceAll(fields, "\n", "\n      ") + "\n"
	e, err := loader.Load("a.yaml", []byte(file), nil)
	if err != nil {
		return nil, err
	}
	return &e.Spec.Method[0].Fault.(*fault).Filter, nil
}

func TestLoad(t *testing.T) {
	t.Parallel()
	f, err := load(strings.Join([]string{
		"direction: both", "interfaces: [eth0, lo]", "protocol: tcp", "ports: [5432, 8000-8099]", "sourcePorts: 80",
		"hosts: [db, db.example., _sip._tcp.example, 10.0.0.1, '::1', a_b]", "cidrs: [10.0.0.0/8, 2001:db8::/32, 192.0.2.1]", "percent: 25",
		"exclude: {protocol: [icmp, udp], ports: 22, hosts: [bastion], cidrs: ['::/0']}", "allowHost: true", "allowSelf: true",
	}, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	quarter := experiment.Percent(25)
	want := &Filter{
		Direction: Both, Interfaces: []string{"eth0", "lo"}, Protocol: Protocols{"tcp"},
		Ports: Ports{{5432, 5432}, {8000, 8099}}, SourcePorts: Ports{{80, 80}},
		Hosts:   []string{"db", "db.example.", "_sip._tcp.example", "10.0.0.1", "::1", "a_b"},
		CIDRs:   []string{"10.0.0.0/8", "2001:db8::/32", "192.0.2.1"},
		Percent: &quarter,
		Exclude: &Exclude{
			Protocol: Protocols{"icmp", "udp"}, Ports: Ports{{22, 22}}, Hosts: []string{"bastion"}, CIDRs: []string{"::/0"},
		},
		AllowHost: true, AllowSelf: true,
	}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
	}
	encoded, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	again := &Filter{}
	if err := json.Unmarshal(encoded, again, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, again); diff != "" {
		t.Errorf("after %s:\n%s", encoded, diff)
	}
}

func TestLoadTo(t *testing.T) {
	t.Parallel()
	f, err := load("to: {type: picked, name: db, mode: all}")
	if err != nil {
		t.Fatal(err)
	}
	if f.To == nil || f.To.Type != "picked" || f.To.Selector.(*picked).Name != "db" {
		t.Errorf("%+v", f.To)
	}
}

// TestRefused has for each field what a user sees, from its place on.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ fields, want string }{
		{"direction: out", `direction: test: unknown direction "out"` + "\n        directions: both egress ingress"},
		{"direction: Egress", `direction: test: unknown direction "Egress" (did you mean "egress"?)` + "\n        directions: both egress ingress"},
		{"protocol: tpc", `protocol: test: unknown protocol "tpc" (did you mean "tcp"?)` + "\n        protocols: icmp sctp tcp udp"},
		{"protocol: [tcp, quic]", `protocol: test: unknown protocol "quic"` + "\n        protocols: icmp sctp tcp udp"},
		{"protocol: 6", "protocol: test: want a protocol such as tcp, or a list of them"},
		{"protocol: []", "protocol: test: an empty list: leave it out to mean all protocols"},
		{"ports: 70000", "ports: test: 70000 is not a port (1 to 65535)"},
		{"ports: 9-3", `ports: test: "9-3" runs backwards`},
		{"ports: {first: 1}", "ports: test: want a port such as 5432, a range such as 8000-8099, or a list of them"},
		{"{ports: 80, protocol: icmp}", "ports: test: icmp has no ports: leave them out, or icmp"},
		{"{sourcePorts: 80, protocol: [tcp, icmp]}", "sourcePorts: test: icmp has no ports: leave them out, or icmp"},
		{"cidrs: [10.0.0.0/8, 10.0.0.0/33]", "cidrs[1]: test: 10.0.0.0/33 is no range (10.0.0.0/8, 2001:db8::/32, or an address)"},
		{"cidrs: [10.0.0.1/24]", "cidrs[0]: test: 10.0.0.1/24 has bits set behind the first 24: say 10.0.0.0/24, or 10.0.0.1 alone"},
		{"cidrs: ['::ffff:10.0.0.0/104']", "cidrs[0]: test: ::ffff:10.0.0.0/104 is IPv4 in the clothes of IPv6: no packet has such an address; write it as IPv4"},
		{"cidrs: ['fe80::1%eth0']", `cidrs[0]: test: "fe80::1%eth0" names a link: say fe80::1, and the link in interfaces`},
		{"cidrs: [db]", "cidrs[0]: test: db is no range (10.0.0.0/8, 2001:db8::/32, or an address)"},
		{"hosts: ['']", "hosts[0]: test: an empty name"},
		{"hosts: ['db:5432']", `hosts[0]: test: "db:5432" is not a host: a port goes into ports`},
		{"hosts: [10.0.0.0/8]", `hosts[0]: test: "10.0.0.0/8" is not a host: a range goes into cidrs`},
		{"hosts: ['http://db/']", `hosts[0]: test: "http://db/" is a URL: give the host alone, and its port in ports`},
		{"hosts: ['*.example']", `hosts[0]: test: "*.example" is not the name of a host`},
		{"hosts: ['a b']", `hosts[0]: test: "a b" is not the name of a host`},
		{"hosts: [.]", `hosts[0]: test: "." is not the name of a host`},
		{"hosts: [a..b]", `hosts[0]: test: "a..b" is not the name of a host`},
		{"hosts: [bücher.example]", `hosts[0]: test: "bücher.example" has letters that no resolver is asked for: write it as xn--…`},
		{"hosts: [db, '::1%lo']", `hosts[1]: test: "::1%lo" names a link: say ::1, and the link in interfaces`},
		{"interfaces: ['']", "interfaces[0]: test: an empty name"},
		{"interfaces: [eth0, a/b]", `interfaces[1]: test: "a/b" is not the name of a link`},
		{"interfaces: ['..']", `interfaces[0]: test: ".." is not the name of a link`},
		{"interfaces: [sixteen_bytes_ab]", `interfaces[0]: test: "sixteen_bytes_ab" is longer than a link's name can be (15 bytes)`},
		{"percent: 0", "percent: test: 0 is no flow at all: leave it out to mean all of them, or give more"},
		{"percent: 101", "percent: test: 101 is not a percentage (0 to 100)"},
		{"to: {type: picked, mode: one}", "to.mode: test: to takes all that it selects: leave mode out"},
		{"to: {type: picket}", `to: test: unknown type "picket"`},
		{"allowSelf: true", "allowSelf: test: goes with allowHost: true only"},
		{"exclude: {}", "exclude: test: excludes nothing: say what, such as exclude: {ports: 22}, or leave it out"},
		{"exclude: {ports: 0}", "exclude.ports: test: 0 is not a port (1 to 65535)"},
		{"exclude: {protocol: tpc}", `exclude.protocol: test: unknown protocol "tpc"`},
		{"exclude: {hosts: [db, 'a b']}", `exclude.hosts[1]: test: "a b" is not the name of a host`},
		{"exclude: {cidrs: [1.2.3]}", "exclude.cidrs[0]: test: 1.2.3 is no range"},
		{"exclude: {to: {type: picked, mode: fixed, count: 1}}", "exclude.to.mode: test: to takes all that it selects: leave mode out"},
		{"exclude: {percent: 1}", `exclude: test: unknown field "percent"`},
	} {
		if strings.HasPrefix(c.fields, "{") {
			c.fields = strings.ReplaceAll(strings.Trim(c.fields, "{}"), ", p", "\np")
		}
		_, err := load(c.fields)
		if want := "spec.method[0].fault." + c.want; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v\nwant\n%s", c.fields, err, want)
		}
	}
}

func TestDirection(t *testing.T) {
	t.Parallel()
	for d, want := range map[Direction]string{"": "true false", Egress: "true false", Ingress: "false true", Both: "true true"} {
		if got := fmt.Sprint(d.Egress(), d.Ingress()); got != want {
			t.Errorf("%q: %s", d, got)
		}
	}
}
