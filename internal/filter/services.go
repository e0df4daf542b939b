package filter

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// Services returns the names of all services that a filter knows, sorted.
func Services() []string { return slices.Sorted(maps.Keys(services)) }

// region is the form of a region's name, of whichever cloud.
var region = regexp.MustCompile(`^[a-z]+(-[a-z]+)+-?[0-9]+$`)

// CheckServices says what is wrong with a list of services and their region,
// as a FieldError of services or region.
func CheckServices(list []string, in string) error {
	regional := false
	for i, name := range list {
		names, known := services[name]
		if !known {
			return place(fmt.Sprintf("services/%d", i), unknown("service", name, Services()))
		}
		by := slices.ContainsFunc(names, byRegion)
		if by && in == "" && onlyByRegion(names) {
			return experiment.Fieldf(fmt.Sprintf("services/%d", i), "%s has names in each region: say region, such as region: eu-west-1", name)
		}
		regional = regional || by
	}
	switch {
	case in == "":
		return nil
	case !region.MatchString(in):
		return experiment.Fieldf("region", "%s is not the name of a region, such as eu-west-1", quote(in))
	case len(list) == 0:
		return experiment.Fieldf("region", "goes with services only")
	case !regional:
		return experiment.Fieldf("region", "%s has no names by region: leave region out", strings.Join(list, ", "))
	}
	return nil
}

func byRegion(name string) bool { return strings.Contains(name, "REGION") }

// onlyByRegion tells whether the first of the names, which is what programs
// use, is by region.
func onlyByRegion(names []string) bool { return byRegion(names[0]) }

// ServiceHosts returns the names and addresses of a service's endpoints that
// can be resolved, none where each account has its own.
func ServiceHosts(service, region string) []string { return namesOf(service, region, false) }

// ServicePatterns returns all names of a service's endpoints as a name server
// is asked for them: s3.eu-west-1.amazonaws.com, and *.s3.eu-west-1.amazonaws.com
// for all below that. A service of addresses has none.
func ServicePatterns(service, region string) []string {
	return slices.DeleteFunc(slices.Concat(ServiceHosts(service, region), namesOf(service, region, true)), func(name string) bool {
		_, err := netip.ParseAddr(name)
		return err == nil
	})
}

// namesOf returns a service's names in a region, those with a wildcard or
// those without.
func namesOf(service, in string, wild bool) (list []string) {
	for _, name := range services[service] {
		if strings.HasPrefix(name, "*.") != wild || byRegion(name) && in == "" {
			continue
		}
		name = strings.ReplaceAll(name, "REGION", in)
		if strings.HasPrefix(in, "cn-") {
			if strings.HasSuffix(name, "api.aws") {
				continue
			}
			if strings.HasSuffix(name, ".amazonaws.com") {
				name += ".cn"
			}
		}
		list = append(list, name)
	}
	return list
}

// services returns the addresses of services, and notes what of them is out of
// reach for who looks at addresses. Of each at least one name must resolve.
func (r *matcher) services(ctx context.Context, f *Filter, notes *[]string) (list []netip.Addr, err error) {
	for i, service := range f.Services {
		field := fmt.Sprintf("services/%d", i)
		hosts := ServiceHosts(service, f.Region)
		below := namesOf(service, f.Region, true)
		if len(hosts) == 0 {
			return nil, experiment.Fieldf(field, "%s has only names that each account has for itself (%s), which can't be resolved: give yours in hosts, or use the fault dns, which knows them by pattern", service, strings.Join(below, ", "))
		}
		found, silent, err := r.resolveSome(ctx, hosts)
		if err != nil {
			return nil, place(field, fmt.Errorf("%s: %w", service, err))
		}
		list = append(list, found...)
		if len(silent) > 0 {
			*notes = append(*notes, fmt.Sprintf("%s: left out, since they do not resolve here: %s", service, cut(silent, ", ")))
		}
		if len(below) > 0 {
			*notes = append(*notes, fmt.Sprintf("%s: names of which there is no list, such as %s, are met only where they have the same addresses (the fault dns knows them by pattern)", service, below[0]))
		}
		if strings.HasPrefix(service, "gcp.") && service != "gcp.metadata" {
			*notes = append(*notes, service+": Google serves its interfaces from shared addresses: others fail with it (the fault dns tells them apart)")
		}
	}
	return list, nil
}

// resolveSome resolves those hosts that can be, and follows them from then on.
// It is an error where none can.
func (r *matcher) resolveSome(ctx context.Context, hosts []string) (found []netip.Addr, silent []string, err error) {
	var names []string
	for _, host := range hosts {
		if a, err := netip.ParseAddr(host); err == nil {
			found = append(found, a)
		} else {
			names = append(names, host)
		}
	}
	if names == nil {
		return found, nil, nil
	}
	resolver, err := r.resolver()
	if err != nil {
		return nil, nil, err
	}
	lists, errs := resolver.lookupEach(ctx, names)
	for i, list := range lists {
		if errs[i] != nil {
			silent = append(silent, names[i])
			continue
		}
		found = append(found, list...)
		r.names.Hosts = append(r.names.Hosts, names[i])
	}
	if len(found) == 0 {
		return nil, nil, errs[0]
	}
	return found, silent, nil
}
