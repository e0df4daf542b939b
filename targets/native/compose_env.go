package native

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/interpolation"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/tree"

	"github.com/simianhq/simian/experiment"
)

// environment collects the variables: of .env beside the first file, the
// process's on top, and o's above both.
func (c *compose) environment(o LoadOptions) error {
	outer := variables{}
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		outer[name] = value
	}
	maps.Copy(outer, o.Env)
	file := filepath.Join(c.dir, ".env")
	data, err := readFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &experiment.FileError{File: file, Err: err}
	}
	c.vars = outer
	inner, err := parseEnv(data, false, c.lookup)
	if err != nil {
		return envError(file, err)
	}
	maps.Copy(inner, outer)
	c.vars = inner
	c.profiles = o.Profiles
	if len(o.Profiles) == 0 {
		c.profiles = strings.FieldsFunc(c.vars["COMPOSE_PROFILES"], func(r rune) bool { return r == ',' || r == ' ' })
	}
	return nil
}

func (c *compose) lookup(name string) (string, bool) {
	value, ok := c.vars[name]
	return value, ok
}

// parseEnv reads an environment file. A raw one has neither quotes nor
// variables.
func parseEnv(data []byte, raw bool, lookup dotenv.LookupFn) (variables, error) {
	if !raw {
		return dotenv.ParseWithLookup(bytes.NewReader(data), lookup)
	}
	vars := variables{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if name, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			vars[name] = value
		}
	}
	return vars, nil
}

// envError takes the line out of dotenv's message.
func envError(file string, err error) *experiment.FileError {
	e := &experiment.FileError{File: file, Err: err}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		_, text, _ := strings.Cut(err.Error(), m[0])
		e.Err = errors.New(text)
	}
	return e
}

// substitute fills in variables for compose-go.
func (c *compose) substitute(text string, _ template.Mapping) (string, error) {
	return c.vars.expand(text)
}

// plainCasts has compose-go's conversions fail in plain words, and without its
// warnings in a log. Those of keys that no file says are left out: it would hold
// each value against all of them.
func (c *compose) plainCasts(casts map[tree.Path]interpolation.Cast) map[tree.Path]interpolation.Cast {
	plain := make(map[tree.Path]interpolation.Cast, len(casts))
	for path, cast := range casts {
		if slices.ContainsFunc(path.Parts(), func(part string) bool {
			return part != tree.PathMatchAll && part != tree.PathMatchList && !c.said[part]
		}) {
			continue
		}
		plain[path] = func(value string) (any, error) {
			if word := strings.ToLower(value); isBool(cast) && slices.Contains([]string{"y", "yes", "on", "n", "no", "off"}, word) {
				return word[0] == 'y' || word == "on", nil
			}
			v, err := cast(value)
			if err != nil {
				return nil, fmt.Errorf("want %s, not %s", castTo(err), shown(value))
			}
			return v, nil
		}
	}
	return plain
}

// isBool tells whether a conversion makes true or false.
func isBool(cast interpolation.Cast) bool {
	v, err := cast("true")
	return err == nil && v == true
}

// castTo tells from the error of a conversion what it makes.
func castTo(err error) string {
	switch text := err.Error(); {
	case strings.Contains(text, "boolean"):
		return "true or false"
	case strings.Contains(text, "ParseFloat"):
		return "a number"
	}
	return "a whole number"
}
