package chaos

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/op"
)

// TestDNS asks by UDP and TCP, by IPv4 and IPv6, a resolver elsewhere and one
// on loopback: names that match get what was asked for, others what the
// resolver says.
func TestDNS(t *testing.T) {
	for how, want := range map[string]string{
		"drop":     "nothing",
		"refuse":   "REFUSED",
		"nxdomain": "NXDOMAIN",
		"servfail": "SERVFAIL",
		"address, addresses: [192.0.2.1, '2001:db8::bad']": "NOERROR 192.0.2.1",
		"slow, delay: 300ms": "NOERROR 203.0.113.7",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			l := newNet3DNS(t, op.NewHost(host))
			before := netSnapshot(l.web.Target)
			steps := l.fail("names: ['*.example.org', db], how: " + how)
			slow, patience := strings.HasPrefix(how, "slow"), 10*time.Second
			if want == "nothing" {
				patience = 300 * time.Millisecond
			}
			for _, server := range []string{"10.83.0.1", "fd83::1", "127.0.0.11", "::1"} {
				for _, network := range []string{"udp", "tcp"} {
					for _, name := range []string{"a.example.org", "A.B.Example.ORG", "db"} {
						began := time.Now()
						got := said(l.web.ask(network, server, name, dns.TypeA, patience))
						if took := time.Since(began); got != want || slow && took < 300*time.Millisecond {
							t.Errorf("%s %s %s: %s after %s, want %s", network, server, name, got, took, want)
						}
					}
					for name, want := range map[string]string{"example.org": "NOERROR 203.0.113.7", "dbx.": "NOERROR 203.0.113.7", "none.example.com": "NXDOMAIN"} {
						if got := said(l.web.ask(network, server, name, dns.TypeA, 10*time.Second)); got != want {
							t.Errorf("another name, %s %s %s: %s, want %s", network, server, name, got, want)
						}
					}
				}
			}
			e, err := steps[0].Do.(experiment.Verifier).Verify(t.Context())
			t.Logf("%+v", e)
			if err != nil || !e.InForce || e.Felt != experiment.FeltYes {
				t.Errorf("%+v, %v", e, err)
			}
			heal(t, steps, l.web.Target, before)
			if got := said(l.web.ask("udp", "10.83.0.1", "db", dns.TypeA, 10*time.Second)); got != "NOERROR 203.0.113.7" {
				t.Errorf("after it: %s", got)
			}
		})
	}
}

// dnsForms are dns faults whose plans differ.
var dnsForms = []struct{ name, fields string }{
	{"drop", ""},
	{"refuse", "how: refuse, names: [db]"},
	{"nxdomain", "how: nxdomain, names: [db., '*.Example.org'], exclude: [good.example.org], percent: 50"},
	{"servfail", "how: servfail, types: [A, AAAA]"},
	{"address", "how: address, addresses: [192.0.2.1, '2001:db8::1'], names: ['*.example.org']"},
	{"slow", "how: slow, delay: 1500ms"},
}

func TestDNSConformance(t *testing.T) {
	for _, form := range dnsForms {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			h := op.NewHost(host)
			fault, err := readDNS(h, form.fields)
			must(t, err)
			var l *net3
			experimenttest.Fault(t, experimenttest.FaultCase{
				Fault: fault, Ops: h.Ops(), Snapshot: netSnapshot,
				Target: func(t testing.TB) experiment.Target {
					l = newNet3For(t, h)
					return l.web.Target
				},
				Gone: func(testing.TB, experiment.Target) { l.web.end(); l.db.end(); l.cache.end() },
			})
		})
	}
}

// TestDNSGolden writes down what is planned. The target's resolver is this
// test's own.
func TestDNSGolden(t *testing.T) {
	l := newNet3(t)
	l.web.Root = resolvesBy(t, "nameserver 10.83.0.1\nsearch shop.internal\n", "10.84.0.1 db\n")
	before := netSnapshot(l.web.Target)
	ns, err := host.NetworkOf(l.web.Target)
	must(t, err)
	numbers := strings.NewReplacer(ns.Handle(), "net:4026533210:7", fmt.Sprint(ns.Inode), "4026533210", l.web.PIDs[0].String(), "pid 812")
	for _, form := range dnsForms {
		d, err := readDNS(l.host, form.fields)
		must(t, err)
		steps, err := d.Plan(t.Context(), "abcd23", l.web.Target)
		must(t, err)
		golden(t, "dns-"+form.name, numbers.Replace(describe(steps)))
	}
	if after := netSnapshot(l.web.Target); after != before {
		t.Errorf("planned, and changed: %s", after)
	}
}

// resolvesBy makes a root with these files in it.
func resolvesBy(t testing.TB, resolv, hosts string) string {
	t.Helper()
	root := t.TempDir()
	must(t, os.Mkdir(root+"/etc", 0o755))
	must(t, os.WriteFile(root+"/etc/resolv.conf", []byte(resolv), 0o600))
	must(t, os.WriteFile(root+"/etc/hosts", []byte(hosts), 0o600))
	return root
}

func TestDNSFields(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 64)
	for fields, want := range map[string]string{
		"how: nxdomain, names: [db, '*.svc.', _dmarc.example.org]": "",
		"how: burn":                     "how: unknown word \"burn\"\n        words: drop refuse nxdomain servfail address slow",
		"how: slow":                     "delay: how: slow needs one, such as delay: 2s",
		"delay: 1s":                     "delay: is for how: slow only",
		"how: slow, delay: -1s":         "-1s is negative",
		"how: address":                  "addresses: how: address needs one, such as addresses: [192.0.2.1]",
		"addresses: [192.0.2.1]":        "addresses: these are for how: address only",
		"how: address, addresses: [db]": `addresses[0]: "db" is not an address that an answer can have`,
		"how: address, addresses: ['fe80::1%eth0']":          `"fe80::1%eth0" is not an address that an answer can have`,
		"how: address, addresses: ['::ffff:1.2.3.4']":        `"::ffff:1.2.3.4" is not an address that an answer can have`,
		"how: address, addresses: [1.2.3.4, 5.6.7.8]":        "addresses[1]: a second one of the same family: an answer has one of each",
		"how: address, addresses: [1.2.3.4], types: [A, MX]": "types[1]: MX is answered with no address: how: address is about A and AAAA",
		"types: [a]":              "types[0]: unknown type \"a\"\n        types: A AAAA ANY CAA CNAME HTTPS MX NAPTR NS PTR SOA SRV SVCB TXT",
		"types: []":               "types: an empty list: leave it out to mean all types",
		"names: []":               "names: an empty list: leave it out",
		"names: ['']":             "names[0]: an empty name",
		"names: [10.0.0.1]":       `names[0]: "10.0.0.1" is an address: nobody looks it up`,
		"names: ['https://db/']":  `names[0]: "https://db/" is a URL: give the name alone`,
		"names: [bücher.example]": `has letters that no resolver is asked for: write it as xn--…`,
		"names: ['db:53']":        `names[0]: "db:53" is not a name or a pattern (*.example.org)`,
		"names: [a..b]":           `names[0]: "a..b" is not a name: between its dots are 1 to 63 letters`,
		"names: [" + long + "]":   "is not a name: between its dots are 1 to 63 letters",
		"names: [" + strings.Repeat("x.", 127) + "x]": "is longer than a name can be (253 letters)",
		"exclude: ['*']": "exclude[0]: * leaves nothing",
		"percent: 0":     "percent: 0 is no lookup at all: leave it out to mean all of them, or give more",
		"percent: 101":   "101 is not a percentage (0 to 100)",
		"port: 53":       `unknown field "port"`,
	} {
		_, err := readDNS(op.NewHost(host), fields)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(strings.Replace(err.Error(), "dns: ", "", 1), want) {
			t.Errorf("%s: %v, want %q", fields, err, want)
		}
	}
}

func TestDNSRefused(t *testing.T) {
	d, err := readDNS(op.NewHost(host), "names: [db], exclude: ['d*']")
	must(t, err)
	self, err := host.Target(os.Getpid())
	must(t, err)
	if _, err := d.Plan(t.Context(), "abcd23", self); !errors.Is(err, experiment.ErrProtected) || !strings.Contains(err.Error(), "the host's own") {
		t.Errorf("the host's own network: %v", err)
	}
	if _, err := d.Plan(t.Context(), "abcd23", experiment.Target{Name: "web"}); !errors.Is(err, experiment.ErrUnsupported) {
		t.Errorf("no process: %v", err)
	}
	web := newNode(t, "web")
	if _, err := d.Plan(t.Context(), "abcd23", web.Target); err == nil || !strings.Contains(err.Error(), "exclude: leaves nothing of names") {
		t.Errorf("nothing left: %v", err)
	}
	d.Exclude = nil
	web.lower("lo")
	if _, err := d.Plan(t.Context(), "abcd23", web.Target); !errors.Is(err, experiment.ErrUnsupported) || !strings.Contains(err.Error(), "lo is down") {
		t.Errorf("lo is down: %v", err)
	}
}

// TestDNSNotes tells what a user would wonder about.
func TestDNSNotes(t *testing.T) {
	l := newNet3(t)
	l.web.Root = resolvesBy(t, "nameserver fe80::1%eth0\nnameserver 10.83.0.1\n", "10.84.0.1 cache\n")
	d, err := readDNS(l.host, "names: [cache, '*.example.org']")
	must(t, err)
	steps, err := d.Plan(t.Context(), "abcd23", l.web.Target)
	must(t, err)
	notes := strings.Join(steps[0].Do.(experiment.Noted).Notes(), "\n")
	for _, want := range []string{"over TLS or HTTPS", "cache stands in the target's hosts(5)", "fe80::1%eth0 are not reached"} {
		if !strings.Contains(notes, want) {
			t.Errorf("%q is not in\n%s", want, notes)
		}
	}
}

// TestDNSServices takes names of clouds' services.
func TestDNSServices(t *testing.T) {
	t.Parallel()
	d := &DNS{Services: []string{"aws.s3"}, Region: "eu-west-1"}
	must(t, d.Validate())
	r, err := d.rule(nil)
	must(t, err)
	for _, want := range []string{"s3.eu-west-1.amazonaws.com", "*.s3.eu-west-1.amazonaws.com"} {
		if !slices.Contains(r.Names, want) {
			t.Errorf("%s is not in %q", want, r.Names)
		}
	}
	for _, d := range []*DNS{{Services: []string{"aws.s4"}}, {Services: []string{"aws.metadata"}}, {Services: []string{"aws.ec2"}, Region: "here"}} {
		if err := d.Validate(); err == nil {
			t.Errorf("%q in %q is taken", d.Services, d.Region)
		}
	}
}
