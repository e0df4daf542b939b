package native

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// convert makes a Project of compose-go's, and checks what its services have to
// do with each other.
func (c *compose) convert() (*Project, error) {
	p := &Project{Name: c.project.Name, Dir: c.dir, Files: c.files, compose: c}
	if len(c.project.Services) == 0 {
		return nil, c.nothing()
	}
	for _, name := range sortedKeys(c.project.Services) {
		if err := c.volumeOptions(name); err != nil {
			return nil, err
		}
		s, err := c.service(c.project.Services[name])
		if err != nil {
			return nil, err
		}
		p.Services = append(p.Services, *s)
	}
	for _, check := range []func() error{
		func() error { return c.dependencies(p) },
		func() error { return clash(p.Services) },
		func() error { return c.projectNetworks(p) },
		func() error { return c.projectVolumes(p) },
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// nothing says why no service is to be launched.
func (c *compose) nothing() error {
	var profiles []string
	for _, s := range c.project.DisabledServices {
		profiles = append(profiles, s.Profiles...)
	}
	if slices.Sort(profiles); len(profiles) > 0 {
		return at("services").errorf("no service is enabled: name a profile (%s)", strings.Join(slices.Compact(profiles), ", "))
	}
	return &placedError{err: errors.New("names no services")}
}

// projectNetworks collects the networks that services are on.
func (c *compose) projectNetworks(p *Project) error {
	on := map[string]bool{}
	for _, s := range p.Services {
		for _, a := range s.Networks {
			on[a.Network] = true
		}
	}
	for _, name := range sortedKeys(on) {
		n, err := c.network(name, c.project.Networks[name])
		if err != nil {
			return err
		}
		for _, o := range p.Networks {
			if n.Subnet.IsValid() && o.Subnet.IsValid() && n.Subnet.Overlaps(o.Subnet) {
				return at("networks", name, "ipam", "config", 0, "subnet").errorf("%s overlaps %s, of the network %s", n.Subnet, o.Subnet, o.Name)
			}
		}
		p.Networks = append(p.Networks, n)
	}
	return sameAddress(p.Services)
}

// sameAddress refuses one address for two services.
func sameAddress(services []Service) error {
	type on struct {
		network string
		address netip.Addr
	}
	owners := map[on]string{}
	for _, s := range services {
		for _, a := range s.Networks {
			key := on{a.Network, a.Address}
			if other := owners[key]; a.Address.IsValid() && other != "" {
				return at("services", s.Name, "networks", a.Network, "ipv4_address").errorf("the service %s has %s already", other, a.Address)
			}
			owners[key] = s.Name
		}
	}
	return nil
}

// projectVolumes collects the volumes that services mount.
func (c *compose) projectVolumes(p *Project) error {
	for _, s := range p.Services {
		for _, m := range s.Mounts {
			if m.Type == types.VolumeTypeVolume && m.Source != "" {
				p.Volumes = append(p.Volumes, m.Source)
			}
		}
	}
	slices.Sort(p.Volumes)
	p.Volumes = slices.Compact(p.Volumes)
	for _, name := range p.Volumes {
		if d := c.project.Volumes[name].Driver; d != "" && d != "local" {
			return at("volumes", name, "driver").errorf("not supported: driver %s: only local is (docs/compose.md)", shown(d))
		}
	}
	return nil
}
