package native

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// guarded turns a panic of compose-go into an error: some of its conversions
// trust what stands in the file.
func guarded[T any](f func() (T, error)) (result T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("is more than Simian can read: %v", r)
		}
	}()
	return f()
}

// withoutVersion returns a file with the line of its version blank, of which
// compose-go would warn in a log.
func (c *compose) withoutVersion(i int) []byte {
	lines := bytes.Split(c.data[i], []byte("\n"))
	for _, s := range c.sources {
		key, value := own(s.root, "version")
		if s.file != c.names[i] || key == nil || s.root.Style&yaml.FlowStyle != 0 || value.Line != key.Line {
			continue
		}
		if line := lines[key.Line-1]; key.Column == 1 && bytes.Contains(line, []byte("version")) {
			lines[key.Line-1] = nil
		}
	}
	return bytes.Join(lines, []byte("\n"))
}

var (
	decodeLine = regexp.MustCompile(`(?m)^'([^']+)' (.*)$`)
	modelPath  = regexp.MustCompile(`^(?:service volume )?((?:services|networks|volumes|secrets|configs|models|jobs|include|name|version)(?:[.\[]\S*?)?):? (.*)$`)
	extraNames = regexp.MustCompile(`^additional properties (.*) not allowed$`)
)

// explain finds the place in compose-go's message, and says the rest plainly.
func (c *compose) explain(err error) error {
	text := err.Error()
	for _, file := range c.files {
		text = strings.TrimPrefix(text, "validating "+file+": ")
		text = strings.TrimPrefix(text, "failed to parse "+file+": ")
	}
	if list := decodeLine.FindAllString(text, -1); list != nil {
		text = strings.ReplaceAll(slices.Min(list), "'", "")
	}
	text, _, _ = strings.Cut(text, "\n")
	text = strings.TrimPrefix(text, "error while interpolating ")
	m := modelPath.FindStringSubmatch(text)
	if extra := strings.TrimSpace(text); m == nil && extraNames.MatchString(extra) {
		return c.plainly(nil, extra)
	}
	if m == nil {
		return &placedError{err: errors.New(text)}
	}
	return c.plainly(c.tokens(m[1]), strings.TrimPrefix(m[2], "failed to cast to expected type: "))
}

// plainly rewords a message of the schema.
func (c *compose) plainly(path []string, text string) error {
	if text == "false schema" {
		parent := pattern(path[:len(path)-1])
		name := path[len(path)-1]
		return &placedError{place: place{path: path}, err: fmt.Errorf("unknown key%s", didYouMean(name, c.keys.below(parent)))}
	}
	if m := extraNames.FindStringSubmatch(text); m != nil {
		name, _, _ := strings.Cut(strings.Trim(m[1], "'"), "', '")
		e := &placedError{place: place{path: append(path, name)}, err: errors.New("a name here has letters, digits, dots, dashes and underscores only")}
		if len(path) != 1 {
			e.err = fmt.Errorf("unknown key%s", didYouMean(name, c.keys.below(pattern(path))))
		}
		return e
	}
	if strings.Contains(text, "overflows uint") {
		text = "must not be negative"
	}
	for _, r := range [][2]string{
		{"invalid command line string", "is no command line: a quote in it is not closed"},
		{"time: ", ""},
		{"must be a null", "must be text or a list of texts"},
		{"must be a array", "must be a list"},
		{"must be a integer", "must be a whole number"},
		{"must be a object", "must be a mapping"},
	} {
		text = strings.Replace(text, r[0], r[1], 1)
	}
	return &placedError{place: place{path: path}, err: errors.New(text)}
}

// tokens takes a path of compose-go's apart: services.web.ports.[0],
// services.web.ports.0 or services[web].ports[0]. Names may hold dots.
func (c *compose) tokens(path string) []string {
	head, rest, _ := strings.Cut(strings.ReplaceAll(strings.ReplaceAll(path, "[", "."), "]", ""), ".")
	tokens := []string{head}
	longest := ""
	for _, s := range c.sources {
		_, n := child(s.root, head)
		if n = deref(n); n == nil || n.Kind != yaml.MappingNode {
			continue
		}
		for i := 0; i < len(n.Content); i += 2 {
			if name := n.Content[i].Value; len(name) > len(longest) && strings.HasPrefix(rest+".", name+".") {
				longest = name
			}
		}
	}
	if longest != "" {
		tokens, rest = append(tokens, longest), strings.TrimPrefix(rest[len(longest):], ".")
	}
	for t := range strings.SplitSeq(rest, ".") {
		if t != "" {
			tokens = append(tokens, t)
		}
	}
	return tokens
}

// pattern is the path of the table that a place belongs to.
func pattern(path []string) string {
	p := slices.Clone(path)
	if len(p) > 1 {
		p[1] = "*"
	}
	for i := 2; i < len(p); i++ {
		if _, err := strconv.Atoi(p[i]); err == nil {
			p[i] = "[]"
		}
	}
	return strings.ReplaceAll(strings.Join(p, "."), ".[]", "[]")
}
