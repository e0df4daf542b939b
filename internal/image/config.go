package image

import (
	"errors"
	"maps"
	"slices"
	"time"
)

// Config is what an image says of the process to run in it (OCI image
// specification, config.md, and Docker's Healthcheck).
type Config struct {
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	Env          []string          `json:"env,omitempty"` // NAME=value
	WorkingDir   string            `json:"workingDir,omitempty"`
	User         string            `json:"user,omitempty"` // name|uid[:group|gid]; "" is root
	StopSignal   string            `json:"stopSignal,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	ExposedPorts []string          `json:"exposedPorts,omitempty"` // port[/protocol], sorted
	Volumes      []string          `json:"volumes,omitempty"`      // paths in the container, sorted
	Health       *Health           `json:"health,omitempty"`       // nil: none
}

// Health is an image's own health check, as Docker defines it. A zero
// duration or count is Docker's default.
type Health struct {
	Test          []string      `json:"test"` // NONE | CMD, args… | CMD-SHELL, line
	Interval      time.Duration `json:"interval,omitempty"`
	Timeout       time.Duration `json:"timeout,omitempty"`
	StartPeriod   time.Duration `json:"startPeriod,omitempty"`
	StartInterval time.Duration `json:"startInterval,omitempty"`
	Retries       int           `json:"retries,omitempty"`
}

// ErrNoCommand says that neither the image nor who uses it names a program.
var ErrNoCommand = errors.New("find what to run: the image has no command; give one")

// Process returns the arguments of the process to run, as Docker's daemon
// merges the image's with a container's own (moby, daemon/commit.go, merge):
//
//   - nil means "not given", which an empty list does not;
//   - an entrypoint given drops the image's entrypoint and its command;
//   - a command given replaces the image's command, and is the entrypoint's
//     arguments;
//   - an empty entrypoint, or one of a single empty word, drops the image's
//     entrypoint; the first of these keeps its command;
//   - an empty command is as good as none given.
func (c Config) Process(entrypoint, command []string) ([]string, error) {
	if len(entrypoint) == 0 {
		if len(command) == 0 {
			command = c.Cmd
		}
		if entrypoint == nil {
			entrypoint = c.Entrypoint
		}
	}
	if len(entrypoint) == 1 && entrypoint[0] == "" {
		entrypoint = nil
	}
	args := slices.Concat(entrypoint, command)
	if len(args) == 0 {
		return nil, ErrNoCommand
	}
	return args, nil
}

// configFile is the part of an image's JSON configuration that is read.
type configFile struct {
	Created      time.Time `json:"created"`
	OS           string    `json:"os"`
	Architecture string    `json:"architecture"`
	Variant      string    `json:"variant"`
	RootFS       struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	Config struct {
		Entrypoint, Cmd, Env  []string
		WorkingDir, User      string
		StopSignal            string
		Labels                map[string]string
		ExposedPorts, Volumes map[string]struct{}
		Healthcheck           *Health
	} `json:"config"`
}

// config puts it in this package's words.
func (f configFile) config() Config {
	c := f.Config
	return Config{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env,
		WorkingDir: c.WorkingDir, User: c.User, StopSignal: c.StopSignal, Labels: c.Labels,
		ExposedPorts: slices.Sorted(maps.Keys(c.ExposedPorts)),
		Volumes:      slices.Sorted(maps.Keys(c.Volumes)),
		Health:       c.Healthcheck,
	}
}
