package chaos

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/dnsrelay"
	"github.com/simianhq/simian/internal/filter"
)

var dnsWays = []string{dnsrelay.Drop, dnsrelay.Refuse, dnsrelay.NXDomain, dnsrelay.ServFail, dnsrelay.Address, dnsrelay.Slow}

// recordTypes are the types of records by name (IANA, DNS parameters).
var recordTypes = map[string]uint16{
	"A": uint16(dnsmessage.TypeA), "AAAA": uint16(dnsmessage.TypeAAAA), "CNAME": uint16(dnsmessage.TypeCNAME),
	"MX": uint16(dnsmessage.TypeMX), "NS": uint16(dnsmessage.TypeNS), "PTR": uint16(dnsmessage.TypePTR),
	"SOA": uint16(dnsmessage.TypeSOA), "SRV": uint16(dnsmessage.TypeSRV), "TXT": uint16(dnsmessage.TypeTXT),
	"SVCB": uint16(dnsmessage.TypeSVCB), "HTTPS": uint16(dnsmessage.TypeHTTPS), "NAPTR": 35, "CAA": 257,
	"ANY": uint16(dnsmessage.TypeALL),
}

// Validate implements experiment.Validator.
func (d *DNS) Validate() error {
	switch {
	case !slices.Contains(dnsWays, d.how()):
		return experiment.Fieldf("how", "unknown word %q\n        words: %s", d.How, strings.Join(dnsWays, " "))
	case d.Percent != nil && *d.Percent == 0:
		return experiment.Fieldf("percent", "0 is no lookup at all: leave it out to mean all of them, or give more")
	case d.how() == dnsrelay.Slow && d.Delay == 0:
		return experiment.Fieldf("delay", "how: slow needs one, such as delay: 2s")
	case d.how() != dnsrelay.Slow && d.Delay != 0:
		return experiment.Fieldf("delay", "is for how: slow only")
	}
	return cmp.Or(d.checkAddresses(), d.checkTypes(), checkNames("names", d.Names), checkNames("exclude", d.Exclude), d.checkServices())
}

// checkServices refuses services that nobody looks up: without a name, all
// would be meant.
func (d *DNS) checkServices() error {
	if err := filter.CheckServices(d.Services, d.Region); err != nil {
		return err
	}
	for i, service := range d.Services {
		if len(filter.ServicePatterns(service, d.Region)) == 0 {
			return experiment.Fieldf(fmt.Sprintf("services/%d", i), "%s is asked by address, not by name: partition reaches it", service)
		}
	}
	return nil
}

func (d *DNS) checkAddresses() error {
	switch {
	case d.how() != dnsrelay.Address && d.Addresses != nil:
		return experiment.Fieldf("addresses", "these are for how: address only")
	case d.how() == dnsrelay.Address && len(d.Addresses) == 0:
		return experiment.Fieldf("addresses", "how: address needs one, such as addresses: [192.0.2.1]")
	}
	var seen [2]bool
	for i, text := range d.Addresses {
		field := fmt.Sprintf("addresses/%d", i)
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			return experiment.Fieldf(field, "%s is not an address that an answer can have", strconv.Quote(text))
		}
		family := 0
		if a.Is6() {
			family = 1
		}
		if seen[family] {
			return experiment.Fieldf(field, "a second one of the same family: an answer has one of each")
		}
		seen[family] = true
	}
	return nil
}

func (d *DNS) checkTypes() error {
	if d.Types != nil && len(d.Types) == 0 {
		return experiment.Fieldf("types", "an empty list: leave it out to mean all types")
	}
	for i, name := range d.Types {
		if _, known := recordTypes[name]; !known {
			return experiment.Fieldf(fmt.Sprintf("types/%d", i), "unknown type %q\n        types: %s", name, strings.Join(slices.Sorted(maps.Keys(recordTypes)), " "))
		}
		if d.how() == dnsrelay.Address && name != "A" && name != "AAAA" {
			return experiment.Fieldf(fmt.Sprintf("types/%d", i), "%s is answered with no address: how: address is about A and AAAA", name)
		}
	}
	return nil
}

func checkNames(field string, names []string) error {
	if names != nil && len(names) == 0 {
		return experiment.Fieldf(field, "an empty list: leave it out")
	}
	for i, name := range names {
		if err := checkPattern(name); err != nil {
			return &experiment.FieldError{Field: fmt.Sprintf("%s/%d", field, i), Err: err}
		}
		if field == "exclude" && strings.Trim(name, "*") == "" {
			return experiment.Fieldf(fmt.Sprintf("%s/%d", field, i), "%s leaves nothing", name)
		}
	}
	return nil
}

// maxName is the longest name in letters, without the dot at its end (RFC
// 1035, 2.3.4), and maxLabel what may stand between two dots.
const maxName, maxLabel = 253, 63

// checkPattern refuses what no lookup could match.
func checkPattern(name string) error {
	quoted := strconv.Quote(name[:min(len(name), maxName)])
	_, notName := netip.ParseAddr(name)
	switch {
	case name == "":
		return errors.New("an empty name")
	case notName == nil:
		return fmt.Errorf("%s is an address: nobody looks it up", quoted)
	case strings.Contains(name, "://"):
		return fmt.Errorf("%s is a URL: give the name alone", quoted)
	case strings.ContainsFunc(name, func(r rune) bool { return r > 127 }):
		return fmt.Errorf("%s has letters that no resolver is asked for: write it as xn--…", quoted)
	case strings.ContainsFunc(name, notInName):
		return fmt.Errorf("%s is not a name or a pattern (*.example.org)", quoted)
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" || len(label) > maxLabel {
			return fmt.Errorf("%s is not a name: between its dots are 1 to %d letters", quoted, maxLabel)
		}
	}
	if len(strings.TrimSuffix(name, ".")) > maxName {
		return fmt.Errorf("%s… is longer than a name can be (%d letters)", quoted, maxName)
	}
	return nil
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.*", r)
}

// isPattern tells whether a name stands for many.
func isPattern(name string) bool { return strings.Contains(name, "*") }
