package native

import (
	"errors"
	"slices"
	"strings"
)

// dependencies reads depends_on of all services, and refuses what can never be
// met.
func (c *compose) dependencies(p *Project) error {
	for i := range p.Services {
		s := &p.Services[i]
		in := c.project.Services[s.Name].DependsOn
		for _, name := range sortedKeys(in) {
			d := Dependency{Service: name, Condition: in[name].Condition, Required: in[name].Required, Restart: in[name].Restart}
			skip, err := c.dependency(p, d)
			if err != nil {
				var e *placedError
				if errors.As(err, &e) {
					e.place = e.place.within("services", s.Name, "depends_on", name)
				}
				return err
			}
			if !skip {
				s.DependsOn = append(s.DependsOn, d)
			}
		}
	}
	return cycle(p.Services)
}

// dependency tells whether d is to be left out: it is not required, and the
// other is not enabled.
func (c *compose) dependency(p *Project, d Dependency) (skip bool, err error) {
	if other, disabled := c.project.DisabledServices[d.Service]; disabled {
		if !d.Required {
			return true, nil
		}
		return false, at().errorf("the service %s is not enabled: it has the profile %s", d.Service, strings.Join(other.Profiles, ", "))
	}
	i := slices.IndexFunc(p.Services, func(s Service) bool { return s.Name == d.Service })
	if i < 0 {
		return false, at().errorf("there is no service %s%s", shown(d.Service), didYouMean(d.Service, sortedKeys(c.project.Services)))
	}
	other := p.Services[i]
	switch {
	case other.Replicas == 0 && !d.Required:
		return true, nil
	case other.Replicas == 0:
		return false, at().errorf("the service %s has no replicas", d.Service)
	case d.Condition == "service_healthy" && other.Health != nil && len(other.Health.Test) > 0 && other.Health.Test[0] == "NONE":
		return false, at().errorf("waits for %s to be healthy, whose health check is disabled", d.Service)
	}
	return false, nil
}

// cycle refuses services that wait for each other, and names them.
func cycle(services []Service) error {
	after := map[string][]Dependency{}
	for _, s := range services {
		after[s.Name] = s.DependsOn
	}
	done := map[string]bool{}
	var visit func(name string, via []string) error
	visit = func(name string, via []string) error {
		if i := slices.Index(via, name); i >= 0 {
			ring := append(slices.Clone(via[i:]), name)
			return at("services", ring[0], "depends_on", ring[1]).errorf("a cycle: %s", strings.Join(ring, " -> "))
		}
		if done[name] {
			return nil
		}
		for _, d := range after[name] {
			if err := visit(d.Service, append(via, name)); err != nil {
				return err
			}
		}
		done[name] = true
		return nil
	}
	for _, s := range services {
		if err := visit(s.Name, nil); err != nil {
			return err
		}
	}
	return nil
}
