package native

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/simianhq/simian/experiment"
)

// LoadOptions is what Load is told besides the files.
type LoadOptions struct {
	Profiles []string          // enabled, besides services without any; COMPOSE_PROFILES where none is given
	Env      map[string]string // on top of the process's environment, which is on top of .env
	Name     string            // of the project; COMPOSE_PROJECT_NAME, what the files say or the folder's where empty
}

// compose is a set of Compose files that is being read.
type compose struct {
	names    []string // of the files, as they were given
	files    []string // absolute
	dir      string   // of the first
	data     [][]byte
	sources  []source
	read     map[string][]source // of files that services are extended from, by absolute path
	bases    map[baseKey][]base
	said     map[string]bool // all keys of all files
	vars     variables
	keys     keyIndex
	profiles []string
	model    map[string]any // merged, in Compose's long forms
	project  *types.Project
}

// Load reads Compose files, later ones on top of earlier ones, as Docker Compose
// does (https://docs.docker.com/reference/compose-file/), and checks all of it
// that can be checked without an image. docs/compose.md says what is taken, and
// where it differs. An error is a *experiment.FileError, or several joined.
func Load(ctx context.Context, files []string, o LoadOptions) (*Project, error) {
	if len(files) == 0 {
		return nil, errors.New("no Compose file is given")
	}
	c := &compose{names: files, read: map[string][]source{}, bases: map[baseKey][]base{}, said: map[string]bool{}, keys: indexKeys()}
	for _, step := range []func() error{
		c.readFiles,
		func() error { return c.environment(o) },
		func() error { return c.readSources(o.Name) },
		c.shortForms,
		func() error { return c.load(ctx) },
		c.checkProfiles,
		c.checkKeys,
		c.bind,
	} {
		if err := step(); err != nil {
			return nil, c.located(err)
		}
	}
	p, err := c.convert()
	if err != nil {
		return nil, c.located(err)
	}
	c.data, c.model, c.project = nil, nil, nil // what is left knows the lines
	return p, ctx.Err()
}

// located gives err its file and line.
func (c *compose) located(err error) error {
	var e *placedError
	if errors.As(err, &e) {
		return c.fileError(e)
	}
	return err
}

func (c *compose) readFiles() error {
	for _, name := range c.names {
		abs, err := filepath.Abs(name)
		if err != nil {
			return &experiment.FileError{File: name, Err: err}
		}
		data, err := readFile(abs)
		if err != nil {
			return &experiment.FileError{File: name, Err: err}
		}
		c.files = append(c.files, abs)
		c.data = append(c.data, data)
	}
	c.dir = filepath.Dir(c.files[0])
	return nil
}

// readSources parses the files, and all files that services of theirs extend.
func (c *compose) readSources(name string) error {
	for i, file := range c.names {
		list, err := parseSources(file, c.dir, c.data[i])
		if err != nil {
			return err
		}
		c.sources = append(c.sources, list...)
	}
	if len(c.sources) == 0 {
		return &experiment.FileError{File: c.names[0], Err: errors.New("is empty")}
	}
	if err := c.chooseName(name); err != nil {
		return err
	}
	for _, s := range c.sources {
		if err := c.lint(s); err != nil {
			return err
		}
	}
	for _, s := range c.sources {
		if err := c.extended(s); err != nil {
			return err
		}
	}
	return nil
}

var (
	projectName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)
	notOfNames  = regexp.MustCompile(`[^a-z0-9_-]`)
)

// chooseName names the project: as told, or by COMPOSE_PROJECT_NAME, or the
// files, or the folder. Files may use the name as a variable.
func (c *compose) chooseName(name string) error {
	if name == "" {
		name = c.vars["COMPOSE_PROJECT_NAME"]
	}
	for _, s := range slices.Backward(c.sources) {
		if _, n := child(s.root, "name"); name == "" {
			name = c.text(n)
		}
	}
	if name == "" {
		base := strings.ToLower(filepath.Base(c.dir))
		name = strings.TrimLeft(notOfNames.ReplaceAllString(base, ""), "_-")
	}
	if !projectName.MatchString(name) {
		return at("name").errorf("a project's name has lower-case letters, digits, dashes and underscores, and begins with a letter or digit, not %s", shown(name))
	}
	c.vars["COMPOSE_PROJECT_NAME"] = name
	return nil
}

// baseFile reads a file that a service is extended from.
func (c *compose) baseFile(from source, file string) ([]source, error) {
	abs := file
	if !filepath.IsAbs(file) {
		abs = filepath.Join(from.dir, file)
	}
	if list, ok := c.read[abs]; ok {
		return list, nil
	}
	data, err := readFile(abs)
	if err != nil {
		return nil, err
	}
	name := file
	if !filepath.IsAbs(file) {
		name = filepath.Join(filepath.Dir(from.file), file)
	}
	list, err := parseSources(name, filepath.Dir(abs), data)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		if err := c.lint(s); err != nil {
			return nil, err
		}
	}
	c.read[abs] = list
	return list, nil
}

// load has compose-go merge the files.
func (c *compose) load(ctx context.Context) error {
	details := c.details()
	for i, file := range c.files {
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: file, Content: c.withoutVersion(i)})
	}
	model, err := guarded(func() (map[string]any, error) {
		return loader.LoadModelWithContext(ctx, details, c.options)
	})
	if err != nil {
		return c.explain(err)
	}
	delete(model, "name")
	c.model = model
	return nil
}

func (c *compose) details() types.ConfigDetails {
	return types.ConfigDetails{WorkingDir: c.dir, Environment: types.Mapping(c.vars)}
}

// options are for what Simian checks itself, with lines, or does not want done.
func (c *compose) options(o *loader.Options) {
	o.SkipNormalization, o.SkipConsistencyCheck, o.SkipDefaultValues = true, true, true
	o.SkipInclude, o.SkipResolveEnvironment, o.SkipResolveLabels = true, true, true
	o.SetProjectName(c.vars["COMPOSE_PROJECT_NAME"], true)
	o.Interpolate.Substitute = c.substitute
	o.Interpolate.TypeCastMapping = c.plainCasts(o.Interpolate.TypeCastMapping)
	o.Profiles = c.profiles
}

// bind makes compose-go's types of the model.
func (c *compose) bind() error {
	details := c.details()
	p, err := guarded(func() (*types.Project, error) {
		return loader.ModelToProject(c.model, loader.ToOptions(&details, []func(*loader.Options){c.options}), details)
	})
	if err != nil {
		return c.explain(err)
	}
	c.project = p
	return nil
}

// checkProfiles refuses a profile that no service has.
func (c *compose) checkProfiles() error {
	var known []string
	for _, s := range section(c.model, "services") {
		known = append(known, profilesOf(s)...)
	}
	for _, p := range c.profiles {
		if p != "*" && !slices.Contains(known, p) {
			return at("services").errorf("no service has the profile %s%s", shown(p), didYouMean(p, known))
		}
	}
	return nil
}

func didYouMean(word string, known []string) string {
	if near := experiment.Nearest(word, known); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", near)
	}
	return ""
}
