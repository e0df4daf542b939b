package native

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/op"
)

// maxReplicas keeps a slip of the hand from filling the machine.
const maxReplicas = 1000

// signalName returns the name of a signal, without SIG. It is given by name,
// with or without SIG, or as a number.
func signalName(word string) (string, error) {
	if n, err := strconv.Atoi(word); err == nil {
		if name := unix.SignalName(unix.Signal(n)); name != "" {
			return strings.TrimPrefix(name, "SIG"), nil
		}
		return "", fmt.Errorf("there is no signal %d with a name", n)
	}
	name := strings.TrimPrefix(strings.ToUpper(word), "SIG")
	if op.SignalNumber(name) == 0 {
		return "", fmt.Errorf("unknown signal %s%s", shown(word), didYouMean(name, op.SignalNames()))
	}
	return name, nil
}

func (s *service) replicas() error {
	scale, deploy := s.in.Scale, s.in.Deploy
	path := at("scale")
	s.out.Replicas = 1
	if deploy != nil && deploy.Replicas != nil {
		path = at("deploy", "replicas")
		s.out.Replicas = *deploy.Replicas
		if scale != nil && *scale != *deploy.Replicas {
			return at("scale").errorf("says %d, and deploy.replicas %d", *scale, *deploy.Replicas)
		}
	} else if scale != nil {
		s.out.Replicas = *scale
	}
	if s.out.Replicas < 0 || s.out.Replicas > maxReplicas {
		return path.errorf("want 0 to %d, not %d", maxReplicas, s.out.Replicas)
	}
	if s.out.Replicas > 1 && s.in.ContainerName != "" {
		return at("container_name").errorf("%d replicas cannot have one name", s.out.Replicas)
	}
	return nil
}

func (s *service) restart() error {
	if s.in.Deploy != nil && s.in.Deploy.RestartPolicy != nil {
		return s.restartPolicy(s.in.Deploy.RestartPolicy)
	}
	policy, attempts, counted := strings.Cut(s.in.Restart, ":")
	known := []string{"no", "always", "unless-stopped", "on-failure"}
	switch policy {
	case "":
		policy = "no"
	case "no", "always", "unless-stopped", "on-failure":
	default:
		return at("restart").errorf("unknown policy %s%s", shown(policy), didYouMean(policy, known))
	}
	s.out.Restart.Policy = policy
	if !counted {
		return nil
	}
	n, err := strconv.ParseUint(attempts, 10, 31)
	if policy != "on-failure" || err != nil {
		return at("restart").errorf("want on-failure:ATTEMPTS, not %s", shown(s.in.Restart))
	}
	s.out.Restart.MaxAttempts = int(n)
	return nil
}

// restartPolicy reads deploy.restart_policy, which says the same in other words.
func (s *service) restartPolicy(p *types.RestartPolicy) error {
	path := func(key string) place { return at("deploy", "restart_policy", key) }
	if s.in.Restart != "" {
		return at("restart").errorf("stands beside deploy.restart_policy: say one of them")
	}
	policy, ok := map[string]string{"": "always", "any": "always", "none": "no", "on-failure": "on-failure"}[p.Condition]
	if !ok {
		return path("condition").errorf("want none, on-failure or any, not %s", shown(p.Condition))
	}
	s.out.Restart.Policy = policy
	if p.MaxAttempts != nil && *p.MaxAttempts > 0 {
		if policy != "on-failure" || *p.MaxAttempts > 1<<31-1 {
			return path("max_attempts").errorf("goes with condition: on-failure only")
		}
		s.out.Restart.MaxAttempts = int(*p.MaxAttempts)
	}
	var err error
	if s.out.Restart.Delay, err = lasting(p.Delay, path("delay")); err != nil {
		return err
	}
	s.out.Restart.Window, err = lasting(p.Window, path("window"))
	return err
}

// lasting is a duration that is not negative; 0 where none is said.
func lasting(d *types.Duration, path place) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if *d < 0 {
		return 0, path.errorf("must not be negative")
	}
	return time.Duration(*d), nil
}

func (s *service) health() error {
	in := s.in.HealthCheck
	if in == nil {
		return nil
	}
	h := &Health{Test: in.Test}
	s.out.Health = h
	if in.Disable {
		h.Test = []string{"NONE"}
		return nil
	}
	if err := s.healthTest(in.Test); err != nil {
		return err
	}
	for _, d := range []struct {
		key string
		in  *types.Duration
		out *time.Duration
	}{
		{"interval", in.Interval, &h.Interval},
		{"timeout", in.Timeout, &h.Timeout},
		{"start_period", in.StartPeriod, &h.StartPeriod},
		{"start_interval", in.StartInterval, &h.StartInterval},
	} {
		var err error
		if *d.out, err = lasting(d.in, at("healthcheck", d.key)); err != nil {
			return err
		}
		if *d.out > 0 && *d.out < time.Millisecond {
			return at("healthcheck", d.key).errorf("want at least 1ms, or 0 for the usual, not %s", *d.out)
		}
	}
	if in.Retries != nil {
		if *in.Retries > 1<<31-1 {
			return at("healthcheck", "retries").errorf("is too many")
		}
		h.Retries = int(*in.Retries)
	}
	return nil
}

func (s *service) healthTest(test []string) error {
	path := at("healthcheck", "test")
	if len(test) == 0 {
		return nil // the image's
	}
	switch kind := test[0]; {
	case kind == "NONE" && len(test) == 1, kind == "CMD" && len(test) > 1, kind == "CMD-SHELL" && len(test) == 2 && strings.TrimSpace(test[1]) != "":
		return nil
	case kind != "NONE" && kind != "CMD" && kind != "CMD-SHELL":
		return path.errorf("begins with CMD, CMD-SHELL or NONE, not %s", shown(kind))
	case kind == "CMD-SHELL":
		return path.errorf("want one line behind CMD-SHELL")
	case kind == "CMD":
		return path.errorf("want a command behind CMD")
	}
	return path.errorf("want nothing behind NONE")
}
