package filter

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/miekg/dns"

	"github.com/simianhq/simian/experiment"
)

// Validate implements experiment.Validator. It reads nothing but f.
func (f *Filter) Validate() error {
	directions := []string{string(Both), string(Egress), string(Ingress)}
	switch {
	case f.Direction != "" && !slices.Contains(directions, string(f.Direction)):
		return place("direction", unknown("direction", string(f.Direction), directions))
	case f.Percent != nil && *f.Percent == 0:
		return experiment.Fieldf("percent", "0 is no flow at all: leave it out to mean all of them, or give more")
	case f.AllowSelf && !f.AllowHost:
		return experiment.Fieldf("allowSelf", "goes with allowHost: true only")
	}
	for i, name := range f.Interfaces {
		if err := checkInterface(name); err != nil {
			return place(fmt.Sprintf("interfaces/%d", i), err)
		}
	}
	if err := f.far().validate(""); err != nil {
		return err
	}
	if err := CheckServices(f.Services, f.Region); err != nil {
		return err
	}
	if f.Exclude == nil {
		return nil
	}
	e := f.Exclude
	if len(e.Protocol)+len(e.Ports)+len(e.SourcePorts)+len(e.Hosts)+len(e.CIDRs) == 0 && e.To == nil {
		return experiment.Fieldf("exclude", "excludes nothing: say what, such as exclude: {ports: 22}, or leave it out")
	}
	return e.validate("exclude/")
}

// place says which field of the section err is about.
func place(field string, err error) error { return &experiment.FieldError{Field: field, Err: err} }

// far is what of f its Exclude has too.
func (f *Filter) far() *Exclude {
	return &Exclude{
		Protocol: f.Protocol, Ports: f.Ports, SourcePorts: f.SourcePorts,
		Hosts: f.Hosts, CIDRs: f.CIDRs, To: f.To,
	}
}

// validate checks the fields, whose names in the file begin with prefix.
func (e *Exclude) validate(prefix string) error {
	if err := e.Protocol.check(); err != nil {
		return place(prefix+"protocol", err)
	}
	if prefix == "" { // what is excluded matches any field, not all
		if err := e.portsFit(); err != nil {
			return err
		}
	}
	for i, host := range e.Hosts {
		if err := checkHost(host); err != nil {
			return place(fmt.Sprintf("%shosts/%d", prefix, i), err)
		}
	}
	for i, text := range e.CIDRs {
		if _, err := parseRange(text); err != nil {
			return place(fmt.Sprintf("%scidrs/%d", prefix, i), err)
		}
	}
	if e.To != nil && e.To.GroupBy != "" {
		return experiment.Fieldf(prefix+"to/groupBy", "to takes all that it selects: leave groupBy out")
	}
	if e.To != nil && e.To.Mode != "" && e.To.Mode != experiment.ModeAll {
		return experiment.Fieldf(prefix+"to/mode", "to takes all that it selects: leave mode out")
	}
	return nil
}

// portsFit refuses ports of a protocol that has none.
func (e *Exclude) portsFit() error {
	field := "ports"
	if len(e.Ports) == 0 {
		field = "sourcePorts"
	}
	if len(e.Ports)+len(e.SourcePorts) > 0 && slices.Contains(e.Protocol, "icmp") {
		return experiment.Fieldf(field, "icmp has no ports: leave them out, or icmp")
	}
	return nil
}

// checkInterface refuses what the kernel does not take as a link's name
// (dev_valid_name, net/core/dev.c).
func checkInterface(name string) error {
	const longest = 15 // IFNAMSIZ-1
	switch {
	case name == "":
		return errors.New("an empty name")
	case len(name) > longest:
		return fmt.Errorf("%s is longer than a link's name can be (%d bytes)", quote(name), longest)
	case name == "." || name == ".." || strings.ContainsAny(name, "/:") || strings.ContainsFunc(name, unprintable):
		return fmt.Errorf("%s is not the name of a link", quote(name))
	}
	return nil
}

func unprintable(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }

// checkHost refuses what is neither a name that can be resolved nor an
// address.
func checkHost(host string) error {
	if a, err := netip.ParseAddr(host); err == nil {
		return checkZone(host, a)
	}
	_, valid := dns.IsDomainName(host)
	switch {
	case host == "":
		return errors.New("an empty name")
	case strings.Contains(host, "://"):
		return fmt.Errorf("%s is a URL: give the host alone, and its port in ports", quote(host))
	case strings.Contains(host, "/"):
		return fmt.Errorf("%s is not a host: a range goes into cidrs", quote(host))
	case strings.Contains(host, ":"):
		return fmt.Errorf("%s is not a host: a port goes into ports", quote(host))
	case strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }):
		return fmt.Errorf("%s has letters that no resolver is asked for: write it as xn--…", quote(host))
	case !valid || len(host) > 253 || host == "." || strings.ContainsFunc(host, notInHost):
		return fmt.Errorf("%s is not the name of a host", quote(host))
	}
	return nil
}

// notInHost tells which characters no name of a host has (hostname(7)); an
// underscore is in names of containers.
func notInHost(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.", r)
}

func checkZone(text string, a netip.Addr) error {
	if a.Zone() == "" {
		return nil
	}
	return fmt.Errorf("%s names a link: say %s, and the link in interfaces", quote(text), a.WithZone(""))
}

// parseRange reads an address or a range of them.
func parseRange(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), checkZone(text, a)
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, fmt.Errorf("%s is no range (10.0.0.0/8, 2001:db8::/32, or an address)", word(text))
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%s is IPv4 in the clothes of IPv6: no packet has such an address; write it as IPv4", text)
	case p != p.Masked():
		return p, fmt.Errorf("%s has bits set behind the first %d: say %s, or %s alone", text, p.Bits(), p.Masked(), p.Addr())
	}
	return p, nil
}
