package experiment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

// How much a file may hold, so that neither aliases nor parameters can make a
// small one large.
const (
	maxNodes = 100_000
	maxDepth = 64
	maxBytes = 4 * MaxFileSize // of all values together
)

// document is a YAML file as nodes, each of which knows its line.
type document struct {
	root  *yaml.Node
	nodes int // visited while converting
}

// lineError is an error whose line is known already, and that has no path. In
// line 0 it is the whole file's.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return e.err.Error() }

func parseYAML(data []byte) (*document, error) {
	d := &document{}
	if err := checkText(data); err != nil {
		return d, err
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var file, next yaml.Node
	if err := dec.Decode(&file); err != nil {
		if errors.Is(err, io.EOF) {
			return d, errEmpty
		}
		return d, yamlError(data, err)
	}
	switch err := dec.Decode(&next); {
	case err == nil:
		return d, &lineError{next.Line, errors.New("a second document: one experiment a file")}
	case !errors.Is(err, io.EOF):
		return d, yamlError(data, err)
	}
	if len(file.Content) == 0 || file.Content[0].Kind == yaml.ScalarNode && file.Content[0].Tag == "!!null" {
		return d, errEmpty
	}
	d.root = file.Content[0]
	return d, nil
}

var errEmpty = errors.New("is empty")

// checkText refuses what is no text, and says in which line. UTF-16, which
// begins with a mark, is left to the parser.
func checkText(data []byte) error {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil
	}
	line := 1
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		switch {
		case r == '\n':
			line++
		case r == utf8.RuneError && size == 1:
			return &lineError{line, fmt.Errorf("is not UTF-8 text (byte %#x)", data[i])}
		case r < ' ' && r != '\t' && r != '\r' || r == 0x7f:
			return &lineError{line, fmt.Errorf("is not text (byte %#x)", r)}
		}
		i += size
	}
	return nil
}

var (
	yamlLine   = regexp.MustCompile(`^(?:line (\d+): )?(.*)$`)
	yamlAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
	// The parser, other than the scanner below it, counts lines from 0.
	fromZero = regexp.MustCompile(`^did not find expected (<|node content|'-'|key|',')`)
)

// yamlError takes the line out of the parser's message, or finds it.
func yamlError(data []byte, err error) error {
	m := yamlLine.FindStringSubmatch(strings.TrimPrefix(err.Error(), "yaml: "))
	if m == nil {
		return &lineError{0, fmt.Errorf("not YAML: %w", err)}
	}
	line, _ := strconv.Atoi(m[1])
	text := "not YAML: " + m[2]
	if fromZero.MatchString(m[2]) {
		line++
		if bytes.Contains(data, []byte(": ${")) {
			text += "\n        inside {…} and […], ${NAME} stands in quotes"
		}
	}
	if anchor := yamlAnchor.FindStringSubmatch(m[2]); anchor != nil {
		before, _, _ := bytes.Cut(data, []byte("*"+anchor[1]))
		line = 1 + bytes.Count(before, []byte("\n"))
	}
	return &lineError{line, errors.New(text)}
}

// json converts the nodes. An error has its line or its place.
func (d *document) json() ([]byte, error) {
	d.nodes = 0
	return d.append(nil, d.root, 0)
}

func (d *document) append(out []byte, n *yaml.Node, depth int) ([]byte, error) {
	d.nodes++
	switch {
	case d.nodes > maxNodes:
		return nil, &lineError{n.Line, fmt.Errorf("holds more than %d values, with those that aliases repeat", maxNodes)}
	case len(out) > maxBytes:
		return nil, &lineError{n.Line, fmt.Errorf("its values are larger than %d KiB, with those that aliases repeat", maxBytes>>10)}
	case depth > maxDepth:
		return nil, &lineError{n.Line, fmt.Errorf("nested deeper than %d levels", maxDepth)}
	}
	switch n.Kind {
	case yaml.AliasNode:
		return d.append(out, n.Alias, depth+1)
	case yaml.MappingNode:
		return d.appendMapping(out, n, depth)
	case yaml.SequenceNode:
		return d.appendSequence(out, n, depth)
	}
	return appendScalar(out, n)
}

func (d *document) appendMapping(out []byte, n *yaml.Node, depth int) ([]byte, error) {
	out = append(out, '{')
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if err := checkKey(key, seen); err != nil {
			return nil, err
		}
		seen[key.Value] = key.Line
		if i > 0 {
			out = append(out, ',')
		}
		var err error
		if out, err = jsontext.AppendQuote(out, key.Value); err != nil {
			return nil, &lineError{key.Line, errors.New("a key is not UTF-8")}
		}
		if out, err = d.append(append(out, ':'), value, depth+1); err != nil {
			return nil, below(key.Value, err)
		}
	}
	return append(out, '}'), nil
}

func checkKey(key *yaml.Node, seen map[string]int) error {
	switch {
	case key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge":
		return &lineError{key.Line, errors.New("merging (<<) is not used here: write the fields out")}
	case key.Kind != yaml.ScalarNode:
		return &lineError{key.Line, errors.New("a key must be a word")}
	}
	if line, twice := seen[key.Value]; twice {
		return below(key.Value, &placedError{"", fmt.Errorf("stands here twice (first in line %d)", line)})
	}
	return nil
}

func (d *document) appendSequence(out []byte, n *yaml.Node, depth int) ([]byte, error) {
	out = append(out, '[')
	for i, item := range n.Content {
		if i > 0 {
			out = append(out, ',')
		}
		var err error
		if out, err = d.append(out, item, depth+1); err != nil {
			return nil, below(strconv.Itoa(i), err)
		}
	}
	return append(out, ']'), nil
}

// below moves the place of err down by one level. Places are put together
// where there is an error only: those of all values could fill the memory.
func below(token string, err error) error {
	var p *placedError
	if errors.As(err, &p) {
		p.ptr = jsontext.Pointer("").AppendToken(token) + p.ptr
	}
	return err
}

func appendScalar(out []byte, n *yaml.Node) ([]byte, error) {
	switch tag := n.ShortTag(); tag {
	case "!!null":
		return nil, &placedError{"", errors.New("has no value: give one, or leave the field out")}
	case "!!bool":
		if word := strings.ToLower(n.Value); word == "true" || word == "false" {
			return append(out, word...), nil
		}
		return nil, &placedError{"", fmt.Errorf("want true or false, not %s", quote(n.Value))}
	case "!!int", "!!float":
		return appendNumber(out, n.Value, tag)
	case "!!str", "!!timestamp":
		quoted, err := jsontext.AppendQuote(out, n.Value)
		if err != nil {
			return nil, &placedError{"", errors.New("is not UTF-8")}
		}
		return quoted, nil
	default:
		return nil, &placedError{"", fmt.Errorf("the tag %s is not used here", quote(tag))}
	}
}

// appendNumber writes a number of YAML (0x1F, 1_000, .5) as JSON does.
func appendNumber(out []byte, text, tag string) ([]byte, error) {
	plain := strings.ReplaceAll(text, "_", "")
	if i, err := strconv.ParseInt(plain, 0, 64); err == nil && tag == "!!int" {
		return strconv.AppendInt(out, i, 10), nil
	}
	if u, err := strconv.ParseUint(plain, 0, 64); err == nil && tag == "!!int" {
		return strconv.AppendUint(out, u, 10), nil
	}
	f, err := strconv.ParseFloat(plain, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return nil, &placedError{"", fmt.Errorf("%s is not a number that can be used here", quote(text))}
	}
	return strconv.AppendFloat(out, f, 'g', -1, 64), nil
}

// line returns where the value at ptr stands, or the nearest above it.
func (d *document) line(ptr jsontext.Pointer) int {
	if d.root == nil {
		return 0
	}
	n, line := d.root, d.root.Line
	for token := range ptr.Tokens() {
		at, next := lookup(n, token)
		if next == nil {
			break
		}
		n, line = next, at
	}
	return line
}

// lookup returns the value that n has under token, and the line it begins in;
// nil where it has none.
func lookup(n *yaml.Node, token string) (int, *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := len(n.Content) - 2; i >= 0; i -= 2 { // of two, the second is to blame
			if n.Content[i].Value == token {
				return n.Content[i].Line, n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i].Line, n.Content[i]
		}
	}
	return 0, nil
}
