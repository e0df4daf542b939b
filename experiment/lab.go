package experiment

import (
	"errors"
	"path/filepath"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Lab is the containers that an experiment strikes: launched for this run, or
// standing already.
type Lab struct {
	Compose  Paths             `json:"compose,omitempty" jsonschema:"Compose file to launch for this run, or a list of them; relative to this file"`
	Name     string            `json:"name,omitempty" jsonschema:"a standing lab to strike instead (simian lab up)"`
	Profiles []string          `json:"profiles,omitempty" jsonschema:"profiles of the Compose file that are enabled"`
	Env      map[string]string `json:"env,omitempty" jsonschema:"variables for the Compose file, before those of the environment and of .env"`
	Within   Duration          `json:"within,omitzero" jsonschema:"everything is up and healthy so soon, or the run ends (60s)"`
}

// Paths is one path, or several.
type Paths []string

// UnmarshalJSON implements json.Unmarshaler.
func (p *Paths) UnmarshalJSON(b []byte) error {
	switch jsontext.Value(b).Kind() {
	case '"':
		*p = Paths{""}
		return json.Unmarshal(b, &(*p)[0])
	case '[':
		return json.Unmarshal(b, (*[]string)(p))
	}
	return errors.New("want a path, or a list of paths")
}

// Validate implements Validator.
func (l Lab) Validate() error {
	switch {
	case l.Name != "" && (len(l.Compose) > 0 || len(l.Profiles) > 0 || len(l.Env) > 0 || l.Within > 0):
		return Fieldf("name", "names a lab that stands already: nothing else goes with it")
	case l.Name == "" && len(l.Compose) == 0:
		return errors.New("say what to launch (compose: compose.yaml), or which standing lab to strike (name: shop)")
	}
	for _, path := range l.Compose {
		if strings.TrimSpace(path) == "" {
			return Fieldf("compose", "an empty path")
		}
	}
	return checkLine("name", l.Name)
}

// Files returns the Compose files, those with a relative path below dir.
func (l Lab) Files(dir string) []string {
	var files []string
	for _, path := range l.Compose {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		files = append(files, path)
	}
	return files
}

// LabSummary is what of a lab a journal keeps.
type LabSummary struct {
	Name     string   `json:"name"`              // the Compose project's
	Files    []string `json:"files,omitempty"`   // absolute
	Struck   RunID    `json:"struck,omitempty"`  // the standing lab that this run strikes, by the run that launched it
	Standing bool     `json:"standing,omitzero"` // it stands until it is taken down, and is no experiment
}

// ContainerMark says what became of a container of the lab.
type ContainerMark struct {
	Name    string         `json:"name"` // such as web-1
	Service string         `json:"service"`
	State   ContainerState `json:"state"`
	Process ProcessID      `json:"process,omitzero"` // of its service
	Start   int            `json:"start,omitzero"`   // how often it was started, this time included
	Exit    string         `json:"exit,omitempty"`   // such as "exit 1", "killed by SIGKILL", "out of memory"
	Policy  string         `json:"policy,omitempty"` // restarted by it
	By      string         `json:"by,omitempty"`     // ended, or started anew, for a fault: such as "stop of run abcd23"
}

// ContainerState is where a container is in its life.
type ContainerState string

// The states of a container.
const (
	ContainerStarting  ContainerState = "starting"  // written before it is launched
	ContainerRunning   ContainerState = "running"   // its program runs
	ContainerHealthy   ContainerState = "healthy"   // its health check passes
	ContainerUnhealthy ContainerState = "unhealthy" // its health check has failed as often as it may
	ContainerExited    ContainerState = "exited"    // its process has ended
)
