package experiment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

// How much a file may hold, so that aliases cannot make a small one large.
const (
	maxNodes = 100_000
	maxDepth = 64
)

// document is a YAML file as nodes, and the line of each place in it.
type document struct {
	root  *yaml.Node
	lines map[jsontext.Pointer]int
	nodes int // visited while converting
}

// lineError is an error whose line is known already.
type lineError struct {
	line int
	ptr  jsontext.Pointer
	err  error
}

func (e *lineError) Error() string { return e.err.Error() }

func parseYAML(data []byte) (*document, error) {
	d := &document{lines: map[jsontext.Pointer]int{}}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var file, next yaml.Node
	if err := dec.Decode(&file); err != nil {
		if errors.Is(err, io.EOF) {
			return d, errors.New("is empty")
		}
		return d, yamlError(err)
	}
	switch err := dec.Decode(&next); {
	case err == nil:
		return d, &lineError{line: next.Line, err: errors.New("a second document: one experiment a file")}
	case !errors.Is(err, io.EOF):
		return d, yamlError(err)
	}
	if len(file.Content) == 0 || file.Content[0].Kind == yaml.ScalarNode && file.Content[0].Tag == "!!null" {
		return d, errors.New("is empty")
	}
	d.root = file.Content[0]
	return d, nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:while [^:]*: )?line (\d+): (.*)$`)

// yamlError takes the line out of the parser's message.
func yamlError(err error) error {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ := strconv.Atoi(m[1])
		return &lineError{line: line, err: errors.New("not YAML: " + m[2])}
	}
	return errors.New("not YAML: " + strings.TrimPrefix(err.Error(), "yaml: "))
}

// json converts the nodes, and notes the line of each place.
func (d *document) json() ([]byte, error) {
	d.nodes = 0
	return d.append(nil, d.root, "", 0)
}

func (d *document) append(out []byte, n *yaml.Node, ptr jsontext.Pointer, depth int) ([]byte, error) {
	if d.nodes++; d.nodes > maxNodes {
		return nil, &lineError{n.Line, "", fmt.Errorf("its aliases expand to more than %d values", maxNodes)}
	}
	if depth > maxDepth {
		return nil, &lineError{n.Line, "", fmt.Errorf("nested deeper than %d levels", maxDepth)}
	}
	if _, ok := d.lines[ptr]; !ok {
		d.lines[ptr] = n.Line
	}
	switch n.Kind {
	case yaml.AliasNode:
		return d.append(out, n.Alias, ptr, depth+1)
	case yaml.MappingNode:
		return d.appendMapping(out, n, ptr, depth)
	case yaml.SequenceNode:
		return d.appendSequence(out, n, ptr, depth)
	}
	return appendScalar(out, n, ptr)
}

func (d *document) appendMapping(out []byte, n *yaml.Node, ptr jsontext.Pointer, depth int) ([]byte, error) {
	out = append(out, '{')
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			return nil, &lineError{key.Line, ptr, errors.New("a key must be a word")}
		}
		if line, twice := seen[key.Value]; twice {
			return nil, &lineError{key.Line, ptr, fmt.Errorf("%q stands here twice (first in line %d)", key.Value, line)}
		}
		seen[key.Value] = key.Line
		if i > 0 {
			out = append(out, ',')
		}
		at := ptr.AppendToken(key.Value)
		d.lines[at] = key.Line
		name, err := jsontext.AppendQuote(nil, key.Value)
		if err != nil {
			return nil, &lineError{key.Line, ptr, errors.New("a key is not UTF-8")}
		}
		out = append(append(out, name...), ':')
		if out, err = d.append(out, value, at, depth+1); err != nil {
			return nil, err
		}
	}
	return append(out, '}'), nil
}

func (d *document) appendSequence(out []byte, n *yaml.Node, ptr jsontext.Pointer, depth int) ([]byte, error) {
	out = append(out, '[')
	for i, item := range n.Content {
		if i > 0 {
			out = append(out, ',')
		}
		var err error
		if out, err = d.append(out, item, ptr.AppendToken(strconv.Itoa(i)), depth+1); err != nil {
			return nil, err
		}
	}
	return append(out, ']'), nil
}

func appendScalar(out []byte, n *yaml.Node, ptr jsontext.Pointer) ([]byte, error) {
	wrong := func(format string, args ...any) ([]byte, error) {
		return nil, &lineError{n.Line, ptr, fmt.Errorf(format, args...)}
	}
	switch n.ShortTag() {
	case "!!null":
		return wrong("has no value: give one, or leave the field out")
	case "!!bool":
		return append(out, strings.ToLower(n.Value)...), nil
	case "!!int":
		if i, err := strconv.ParseInt(n.Value, 0, 64); err == nil {
			return strconv.AppendInt(out, i, 10), nil
		}
		if u, err := strconv.ParseUint(n.Value, 0, 64); err == nil {
			return strconv.AppendUint(out, u, 10), nil
		}
		return wrong("%s is too large a number", n.Value)
	case "!!float":
		f, err := strconv.ParseFloat(strings.ReplaceAll(n.Value, "_", ""), 64)
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return wrong("%s is not a number that can be used here", n.Value)
		}
		return strconv.AppendFloat(out, f, 'g', -1, 64), nil
	case "!!str", "!!timestamp":
		quoted, err := jsontext.AppendQuote(out, n.Value)
		if err != nil {
			return wrong("is not UTF-8")
		}
		return quoted, nil
	}
	return wrong("the tag %s is not used here", n.Tag)
}

var reference = regexp.MustCompile(`\$?\$\{([^}]*)\}`)

// substitute fills in ${NAME} everywhere below spec but in the parameters
// themselves. $${NAME} stands for the text ${NAME}.
func (d *document) substitute(set map[string]string) error {
	values, err := d.parameters(set)
	if err != nil {
		return err
	}
	return d.fill(d.root, "", values, 0)
}

// parameters returns what the file declares, with --set and defaults applied;
// nil where neither gives a value.
func (d *document) parameters(set map[string]string) (map[string]*string, error) {
	values := map[string]*string{}
	if params := child(child(d.root, "spec"), "parameters"); params != nil && params.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(params.Content); i += 2 {
			name := params.Content[i].Value
			values[name] = nil
			if def := child(params.Content[i+1], "default"); def != nil && def.Kind == yaml.ScalarNode {
				values[name] = &def.Value
			}
		}
	}
	for name, value := range set {
		if _, ok := values[name]; !ok {
			return nil, fmt.Errorf("--set %s: the file declares no such parameter%s", name, valid("spec.parameters", name, keys(values)))
		}
		values[name] = &value
	}
	return values, nil
}

func keys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

func child(n *yaml.Node, name string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func (d *document) fill(n *yaml.Node, ptr jsontext.Pointer, values map[string]*string, depth int) error {
	if depth > maxDepth || ptr == "/spec/parameters" {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if err := d.fill(n.Content[i+1], ptr.AppendToken(n.Content[i].Value), values, depth+1); err != nil {
				return err
			}
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			if err := d.fill(item, ptr.AppendToken(strconv.Itoa(i)), values, depth+1); err != nil {
				return err
			}
		}
	case yaml.ScalarNode:
		return fillScalar(n, ptr, values)
	}
	return nil
}

// fillScalar fills in one value. Where it was written without quotes, what
// comes out is read as YAML reads it: a number may become a number.
func fillScalar(n *yaml.Node, ptr jsontext.Pointer, values map[string]*string) error {
	var failed error
	text := reference.ReplaceAllStringFunc(n.Value, func(ref string) string {
		if strings.HasPrefix(ref, "$$") {
			return ref[1:]
		}
		name := ref[2 : len(ref)-1]
		value, declared := values[name]
		switch {
		case !declared:
			failed = fmt.Errorf("${%s} is not declared%s", name, valid("spec.parameters", name, keys(values)))
		case value == nil:
			failed = fmt.Errorf("${%s} has no value: say --set %s=…, or give it a default", name, name)
		default:
			return *value
		}
		return ref
	})
	if failed != nil {
		return &lineError{n.Line, ptr, failed}
	}
	if text != n.Value {
		n.Value = text
		if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
			n.Tag = ""
		}
	}
	return nil
}

// fileError places err: its line, its path, and its words for a person.
func (d *document) fileError(name string, err error) *FileError {
	var line *lineError
	if errors.As(err, &line) {
		return &FileError{name, line.line, path(line.ptr), line.err}
	}
	if errors.Is(err, os.ErrNotExist) {
		return &FileError{File: name, Err: err}
	}
	ptr, plain := explain(err)
	at := ptr
	for at != "" && d.lines[at] == 0 {
		at = at.Parent()
	}
	var unknown *unknownFieldError
	if errors.As(plain, &unknown) {
		ptr = ptr.Parent()
	}
	if ptr == "" && at == "" {
		return &FileError{File: name, Line: d.lines[""], Err: plain}
	}
	return &FileError{name, d.lines[at], path(ptr), plain}
}

// path writes a JSON pointer as people do: spec.method[0].fault.
func path(ptr jsontext.Pointer) string {
	var b strings.Builder
	for token := range ptr.Tokens() {
		if _, err := strconv.Atoi(token); err == nil {
			b.WriteString("[" + token + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(token)
	}
	return b.String()
}

// unknownFieldError says that a section has no such field.
type unknownFieldError struct {
	field string
	known []string
}

func (e *unknownFieldError) Error() string {
	return fmt.Sprintf("unknown field %q%s", e.field, valid("fields", e.field, e.known))
}

// explain turns an error of the decoder into a place and plain words.
func explain(err error) (jsontext.Pointer, error) {
	var placed *placedError
	if errors.As(err, &placed) {
		return placed.ptr, placed.err
	}
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return "", err
	}
	ptr := semantic.JSONPointer
	var inner *sectionError
	if errors.As(semantic.Err, &inner) {
		below, plain := explain(inner.err)
		if inner.name != "" {
			plain = fmt.Errorf("%s: %w", inner.name, plain)
		}
		return ptr + below, plain
	}
	switch {
	case errors.Is(semantic.Err, json.ErrUnknownName):
		return ptr, &unknownFieldError{ptr.LastToken(), fieldNames(semantic.GoType)}
	case semantic.Err != nil && semantic.JSONKind != '0':
		return ptr, semantic.Err
	}
	return ptr, fmt.Errorf("want %s, not %s", wanted(semantic.GoType), got(semantic))
}
