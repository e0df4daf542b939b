package native

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/image"
	"github.com/simianhq/simian/internal/seccomp"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// source is what a container's root is made of, in words.
func (s *Service) source() string {
	if s.Rootfs != "" {
		return s.Rootfs
	}
	return s.Image
}

// caps returns the capabilities of a container, with CAP_, sorted: Docker's
// default, without those dropped, with those added.
func (s *Service) caps() []string {
	has := map[string]bool{}
	for _, c := range box.DefaultCaps() {
		has[strings.TrimPrefix(c, "CAP_")] = true
	}
	if slices.Contains(s.CapDrop, "ALL") {
		clear(has)
	}
	if slices.Contains(s.CapAdd, "ALL") {
		for _, c := range box.Capabilities() {
			has[strings.TrimPrefix(c, "CAP_")] = true
		}
	}
	for _, c := range s.CapAdd {
		has[c] = true
	}
	for _, c := range s.CapDrop {
		delete(has, c)
	}
	delete(has, "ALL")
	var caps []string
	for _, c := range sortedKeys(has) {
		caps = append(caps, "CAP_"+c)
	}
	return caps
}

// filter compiles the seccomp profile; nil is none.
func (s *Service) filter(caps []string) ([]unix.SockFilter, error) {
	switch s.Seccomp {
	case "unconfined":
		return nil, nil
	case "":
		return seccomp.Default(caps)
	}
	return seccomp.Load(s.Seccomp, caps)
}

// filter returns a service's seccomp filter. Each is compiled once: most
// services have the same.
func (l *Lab) filter(s *Service, caps []string) ([]unix.SockFilter, error) {
	l.filtering.Lock()
	defer l.filtering.Unlock()
	key := s.Seccomp + " " + strings.Join(caps, " ")
	if filter, there := l.filters[key]; there {
		return filter, nil
	}
	filter, err := s.filter(caps)
	if err == nil {
		l.filters[key] = filter
	}
	return filter, err
}

// prepare works out what is known before anything is made: the process by file
// and image.
func (c *container) prepare() error {
	s := c.service
	var config image.Config
	lower := []string{s.Rootfs}
	if c.image != nil {
		config, lower = c.image.Config, c.image.Layers
	}
	args, err := config.Process(s.Entrypoint, s.Command)
	if err != nil {
		return err
	}
	caps := s.caps()
	filter, err := c.lab.filter(s, caps)
	if err != nil {
		return err
	}
	c.health = c.healthCheck(config)
	c.spec = box.Spec{
		Name: c.name, Hostname: or(s.Hostname, c.name),
		Args: args, Env: c.env(config), Dir: or(s.Dir, config.WorkingDir), User: or(s.User, config.User),
		Lower: lower, ReadOnly: s.ReadOnly,
		Caps: caps, Seccomp: filter, NoNewPrivs: s.NoNewPrivs, Init: s.Init,
		Sysctls: s.Sysctls, Ulimits: s.Ulimits, ShmBytes: s.ShmBytes,
	}
	if s.UserNS {
		c.spec.UserNS = &box.IDMap{HostID: firstMapped, Size: mappedIDs}
	}
	return nil
}

// What a container's users are on the host with userns_mode: private. They lie
// in the range that systemd keeps for containers (systemd.io/UIDS-GIDS), above
// those that useradd gives out in subuid(5).
const (
	firstMapped = 1 << 30
	mappedIDs   = 1 << 16
)

// healthCheck returns the file's, or else the image's. A file that gives no
// test may still say how often the image's is made.
func (c *container) healthCheck(config image.Config) *Health {
	h := Health{}
	if i := config.Health; i != nil {
		h = Health{Test: i.Test, Interval: i.Interval, Timeout: i.Timeout, StartPeriod: i.StartPeriod, StartInterval: i.StartInterval, Retries: i.Retries}
	}
	if f := c.service.Health; f != nil {
		h.Test = orList(f.Test, h.Test)
		h.Interval, h.Timeout = or(f.Interval, h.Interval), or(f.Timeout, h.Timeout)
		h.StartPeriod, h.StartInterval = or(f.StartPeriod, h.StartPeriod), or(f.StartInterval, h.StartInterval)
		h.Retries = or(f.Retries, h.Retries)
	}
	return h.withDefaults()
}

func orList(v, otherwise []string) []string {
	if len(v) > 0 {
		return v
	}
	return otherwise
}

// env returns the environment: the image's, and the file's on top.
func (c *container) env(config image.Config) []string {
	vars := map[string]string{"PATH": defaultPath, "HOSTNAME": or(c.service.Hostname, c.name)}
	for _, list := range [][]string{config.Env, c.service.Env} {
		for _, pair := range list {
			name, value, _ := strings.Cut(pair, "=")
			vars[name] = value
		}
	}
	env := make([]string, 0, len(vars))
	for _, name := range sortedKeys(vars) {
		env = append(env, name+"="+vars[name])
	}
	return env
}

// execSpec is a further process in the container, with the privileges that it
// was started with.
func (c *container) execSpec(args []string) box.ExecSpec {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.spec
	if c.wears != nil {
		s = c.wears
	}
	return box.ExecSpec{
		Args: args, Env: s.Env, Dir: s.Dir, User: s.User,
		Caps: s.Caps, Seccomp: s.Seccomp, NoNewPrivs: s.NoNewPrivs,
	}
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v != zero {
		return v
	}
	return otherwise
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// stopSignal is the signal that asks the container to end.
func (c *container) stopSignal() unix.Signal {
	name := c.service.StopSignal
	if name == "" && c.image != nil {
		name = c.image.Config.StopSignal
	}
	if s := unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG")); s != 0 {
		return s
	}
	return unix.SIGTERM
}

// errorAt says where in the Compose file what is wrong stands.
func (p *Project) errorAt(s *Service, key string, err error) error {
	var placed *experiment.FileError
	if err == nil || errors.As(err, &placed) {
		return err
	}
	tokens := []any{"services", s.Name}
	if key != "" {
		for part := range strings.SplitSeq(key, ".") {
			tokens = append(tokens, part)
		}
	}
	return p.ErrorAt(err, tokens...)
}
