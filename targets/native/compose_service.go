package native

import (
	"errors"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"
)

// service turns one service into ours. Errors have places below it.
type service struct {
	compose *compose
	in      types.ServiceConfig
	out     *Service
}

func (c *compose) service(in types.ServiceConfig) (*Service, error) {
	s := service{compose: c, in: in, out: &Service{Name: in.Name}}
	_, s.out.Line = c.where(at("services", in.Name))
	for _, part := range []func() error{
		s.name, s.image, s.pull, s.command, s.environment, s.identity, s.stop, s.replicas, s.restart, s.health,
		s.cpu, s.memory, s.pids, s.blkio, s.capabilities, s.security, s.sysctls, s.ulimits,
		s.volumes, s.tmpfs, s.networks, s.hosts, s.ports,
	} {
		if err := part(); err != nil {
			var e *placedError
			if errors.As(err, &e) {
				e.place = e.place.within("services", in.Name)
			}
			return nil, err
		}
	}
	return s.out, nil
}

var serviceName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`)

func (s *service) name() error {
	if !serviceName.MatchString(s.in.Name) {
		return at().errorf("a service's name begins with a letter or digit, and has at most 63 letters, digits, dots, dashes and underscores")
	}
	return nil
}

// image finds what the container's root is made of.
func (s *service) image() error {
	folder, err := s.rootfs()
	switch {
	case err != nil:
		return err
	case folder != "":
		s.out.Rootfs = folder
		if len(s.in.Command)+len(s.in.Entrypoint) == 0 {
			return at("x-simian", "rootfs").errorf("a folder brings no command of its own: give command or entrypoint")
		}
		return nil
	case s.in.Image != "":
		s.out.Image = s.in.Image
		return checkReference(s.in.Image)
	case s.in.Build != nil:
		command, name := s.buildCommand()
		return at("build").errorf("Simian builds no images: run `%s`, and add image: %s", command, name)
	}
	return at().errorf("has neither image nor x-simian: {rootfs: FOLDER}")
}

// rootfs returns the folder of x-simian, "" where there is none.
func (s *service) rootfs() (string, error) {
	own, ok := s.in.Extensions["x-simian"]
	if !ok {
		return "", nil
	}
	m, _ := own.(map[string]any)
	folder, _ := m["rootfs"].(string)
	if folder == "" {
		return "", at("x-simian").errorf("want {rootfs: FOLDER}")
	}
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(s.compose.dir, folder)
	}
	info, err := os.Stat(folder)
	if err == nil && !info.IsDir() {
		err = errors.New("is not a folder")
	}
	if err != nil {
		return "", at("x-simian", "rootfs").errorf("%s: %w", folder, bare(err))
	}
	return folder, nil
}

// imageKinds are the references that name where an image is kept.
var imageKinds = []string{"docker-archive:", "oci-archive:", "oci:", "docker:", "containerd:"}

func checkReference(ref string) error {
	for _, kind := range imageKinds {
		if rest, ok := strings.CutPrefix(ref, kind); ok {
			if rest == "" || strings.HasPrefix(rest, ":") {
				return at("image").errorf("%s names nothing behind %s", shown(ref), kind)
			}
			return nil
		}
	}
	if _, err := reference.ParseNormalizedNamed(ref); err != nil {
		return at("image").errorf("%s is no image: %w", shown(ref), err)
	}
	return nil
}

// buildCommand returns what builds the image, and how the image is named then.
// Of sections that say more than docker build is easily told, Docker Compose
// knows the command.
func (s *service) buildCommand() (command, name string) {
	b := *s.in.Build
	if b.Context == "" {
		b.Context = s.compose.dir
	}
	name = strings.ToLower(s.compose.project.Name + "-" + s.in.Name)
	known := types.BuildConfig{Context: b.Context, Dockerfile: b.Dockerfile, Target: b.Target, Args: b.Args}
	if !reflect.DeepEqual(known, b) {
		words := []string{"docker compose"}
		for _, file := range s.compose.names {
			words = append(words, "-f", quoted(file))
		}
		return strings.Join(append(words, "build", quoted(s.in.Name)), " "), name
	}
	words := []string{"docker build -t", name + ":latest"}
	if b.Dockerfile != "" {
		words = append(words, "-f", quoted(filepath.Join(s.relative(b.Context), b.Dockerfile)))
	}
	if b.Target != "" {
		words = append(words, "--target", quoted(b.Target))
	}
	for _, arg := range sortedKeys(b.Args) {
		if b.Args[arg] != nil {
			arg += "=" + *b.Args[arg]
		}
		words = append(words, "--build-arg", quoted(arg))
	}
	return strings.Join(append(words, quoted(s.relative(b.Context))), " "), name + ":latest"
}

// relative is a path as the file would write it.
func (s *service) relative(p string) string {
	rel, err := filepath.Rel(s.compose.dir, p)
	switch {
	case err != nil || strings.HasPrefix(rel, ".."):
		return p
	case rel == ".":
		return "."
	}
	return "./" + rel
}

// quoted is a word for a shell.
func quoted(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\n'\"\\$`&|;<>()*?[]{}!#~") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

var platform = regexp.MustCompile(`^linux/[a-z0-9]+(/[a-z0-9.]+)?$`)

func (s *service) pull() error {
	switch policy := s.in.PullPolicy; policy {
	case "", "missing", "if_not_present":
		s.out.Pull = "missing"
	case "always", "never":
		s.out.Pull = policy
	default:
		return at("pull_policy").errorf("want missing, if_not_present, always or never, not %s", shown(policy))
	}
	if s.out.Platform = s.in.Platform; s.out.Platform != "" && !platform.MatchString(s.out.Platform) {
		return at("platform").errorf("want linux/ARCHITECTURE[/VARIANT], not %s", shown(s.out.Platform))
	}
	return nil
}

func (s *service) command() error {
	s.out.Entrypoint, s.out.Command = s.in.Entrypoint, s.in.Command
	s.out.Init = s.in.Init != nil && *s.in.Init
	s.out.ReadOnly = s.in.ReadOnly
	s.out.Labels = s.in.Labels
	return nil
}

var hostName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9])?$`)

func (s *service) identity() error {
	s.out.User, s.out.Dir, s.out.Hostname = s.in.User, s.in.WorkingDir, s.in.Hostname
	if s.out.Hostname != "" && !hostName.MatchString(s.out.Hostname) {
		return at("hostname").errorf("want at most 64 letters, digits, dots and dashes, not %s", shown(s.out.Hostname))
	}
	if s.out.Dir != "" && !path.IsAbs(s.out.Dir) {
		return at("working_dir").errorf("want an absolute path, not %s", shown(s.out.Dir))
	}
	switch mode := s.in.UserNSMode; mode {
	case "", "host":
	case "private":
		s.out.UserNS = true
	default:
		return at("userns_mode").errorf("want host or private, not %s", shown(mode))
	}
	return nil
}

// environment is what the files of env_file say, with environment on top.
func (s *service) environment() error {
	vars := variables{}
	for i, f := range s.in.EnvFiles {
		if err := s.envFile(i, f, vars); err != nil {
			return err
		}
	}
	for name, value := range s.in.Environment {
		if value != nil {
			vars[name] = *value
		} else if outer, ok := s.compose.vars[name]; ok {
			vars[name] = outer
		}
	}
	for _, name := range sortedKeys(vars) {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return at("environment").errorf("%s is no name of a variable", shown(name))
		}
		s.out.Env = append(s.out.Env, name+"="+vars[name])
	}
	return nil
}

// envFile adds what a file says to vars. Its variables are the project's, then
// those of environment, then of the files before it.
func (s *service) envFile(i int, f types.EnvFile, vars variables) error {
	here := at("env_file", i).near(s.relative(f.Path))
	if f.Format != "" && f.Format != "raw" {
		return at("env_file", i, "format").errorf("want raw, or no format, not %s", shown(f.Format))
	}
	data, err := readFile(f.Path)
	if errors.Is(err, os.ErrNotExist) && !bool(f.Required) {
		return nil
	}
	if err != nil {
		return here.errorf("%s: %w", f.Path, err)
	}
	more, err := parseEnv(data, f.Format == "raw", func(name string) (string, bool) {
		if value, ok := s.compose.vars[name]; ok {
			return value, true
		}
		if value := s.in.Environment[name]; value != nil {
			return *value, true
		}
		value, ok := vars[name]
		return value, ok
	})
	if err != nil {
		return here.errorf("%w", envError(f.Path, err))
	}
	maps.Copy(vars, more)
	return nil
}

// stopGrace is how long a container has to end, as with Docker.
const stopGrace = 10 * time.Second

func (s *service) stop() error {
	s.out.StopGrace = stopGrace
	if s.in.StopGracePeriod != nil {
		if s.out.StopGrace = time.Duration(*s.in.StopGracePeriod); s.out.StopGrace < 0 {
			return at("stop_grace_period").errorf("must not be negative")
		}
	}
	if s.in.StopSignal == "" {
		return nil
	}
	name, err := signalName(s.in.StopSignal)
	if err != nil {
		return at("stop_signal").errorf("%w", err)
	}
	s.out.StopSignal = name
	return nil
}
