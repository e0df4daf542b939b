package native

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"

	"github.com/simianhq/simian/experiment"
)

// place is where something stands in the merged files.
type place struct {
	path []string
	hint string // a text that tells the item of a list from its neighbours
}

// at returns a place; tokens are keys and indexes.
func at(tokens ...any) place {
	p := place{}
	for _, t := range tokens {
		p.path = append(p.path, fmt.Sprint(t))
	}
	return p
}

func (p place) near(hint string) place {
	p.hint = hint
	return p
}

// within puts p below tokens.
func (p place) within(tokens ...string) place {
	p.path = append(slices.Clone(tokens), p.path...)
	return p
}

func (p place) errorf(format string, args ...any) error {
	return &placedError{place: p, err: fmt.Errorf(format, args...)}
}

// placedError is an error with its place, and where it is known already, its
// line.
type placedError struct {
	place place
	file  string
	line  int
	err   error
}

func (e *placedError) Error() string {
	return (&experiment.FileError{File: e.file, Line: e.line, Path: dotted(e.place.path), Err: e.err}).Error()
}

func (e *placedError) Unwrap() error { return e.err }

// maxPath is how many keys and indexes of a path are shown.
const maxPath = 16

// dotted writes a path as people do: services.web.ports[0].
func dotted(path []string) string {
	var b strings.Builder
	for i, token := range path {
		if i == maxPath {
			return b.String() + "…"
		}
		if _, err := strconv.Atoi(token); err == nil {
			b.WriteString("[" + token + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		if !plainWord(token) {
			token = shown(token)
		}
		b.WriteString(token)
	}
	return b.String()
}

func plainWord(s string) bool {
	return s != "" && len(s) <= 80 && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !strings.ContainsRune("_./-", r)
	})
}

// spot is a node and the file that it stands in.
type spot struct {
	source source
	node   *yaml.Node
	line   int // of its key
	depth  int // how much of the path that was looked for leads to it
}

// spots returns the nodes that the files have at a path, the ones that
// override others first. Services that a service extends are looked through
// too.
func (c *compose) spots(p place) []spot {
	var list []spot
	for _, s := range slices.Backward(c.sources) {
		list = append(list, c.spotsIn(s, p)...)
	}
	return list
}

func (c *compose) spotsIn(s source, p place) []spot {
	found := c.follow(spot{source: s, node: s.root, line: s.root.Line}, p)
	if len(p.path) < 2 || p.path[0] != "services" {
		return []spot{found}
	}
	list := []spot{found}
	for _, base := range c.bases[baseKey{s.root, p.path[1]}] {
		at := spot{source: base.source, node: base.node, line: base.line, depth: 2}
		list = append(list, c.follow(at, p))
	}
	return list
}

// follow goes down from at as far as the path leads.
func (c *compose) follow(at spot, p place) spot {
	for at.depth < len(p.path) {
		key, value := c.step(at, p.path[at.depth], p.hint)
		if value == nil {
			break
		}
		at.node, at.line = value, key.Line
		at.depth++
	}
	return at
}

// step returns the key and the value under token.
func (c *compose) step(at spot, token, hint string) (key, value *yaml.Node) {
	n := deref(at.node)
	switch n.Kind {
	case yaml.MappingNode:
		return child(n, token)
	case yaml.SequenceNode:
		item := c.item(n, token, hint)
		return item, item
	case yaml.ScalarNode: // one in place of a list
		if token == "0" {
			return n, n
		}
	}
	return nil, nil
}

// item returns the item of a list that token means: an index, or the name that
// NAME, NAME=value or NAME:value begins with. As an index counts in the merged
// files, an item with the hint comes first.
func (c *compose) item(list *yaml.Node, token, hint string) *yaml.Node {
	index, err := strconv.Atoi(token)
	for _, n := range list.Content {
		if err != nil && c.isNamed(n, token) || err == nil && hint != "" && c.tells(n, hint) {
			return n
		}
	}
	if err == nil && index < len(list.Content) && index >= 0 {
		return list.Content[index]
	}
	return nil
}

func (c *compose) isNamed(n *yaml.Node, name string) bool {
	rest, ok := strings.CutPrefix(c.text(n), name)
	return ok && (rest == "" || rest[0] == '=' || rest[0] == ':')
}

// tells tells whether an item of a list has hint as one of its parts or values.
func (c *compose) tells(n *yaml.Node, hint string) bool {
	n = deref(n)
	if n.Kind == yaml.MappingNode {
		return slices.ContainsFunc(n.Content, func(v *yaml.Node) bool { return c.text(v) == hint })
	}
	text := c.text(n)
	return text == hint || slices.Contains(strings.Split(text, ":"), hint)
}

// text returns a scalar with its variables, "" where it is none.
func (c *compose) text(n *yaml.Node) string {
	n = deref(n)
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	text, _ := c.vars.expand(n.Value)
	return text
}

// where returns the file and the line of a place, or of the nearest above it.
func (c *compose) where(p place) (file string, line int) {
	best := spot{depth: -1}
	for _, s := range c.spots(p) {
		if s.depth > best.depth {
			best = s
		}
	}
	if best.depth <= 0 {
		return c.names[0], 0
	}
	return best.source.file, best.line
}

// ErrorAt gives err the file and the line that tokens lead to, such as services,
// web, volumes, 0, for what is found out after Load.
func (p *Project) ErrorAt(err error, tokens ...any) error {
	e := &placedError{place: at(tokens...), err: err}
	if p.compose == nil {
		return e
	}
	return p.compose.fileError(e)
}

// fileError says where in the files err belongs.
func (c *compose) fileError(e *placedError) *experiment.FileError {
	f := &experiment.FileError{File: e.file, Line: e.line, Path: dotted(e.place.path), Err: e.err}
	if f.File == "" {
		f.File, f.Line = c.where(e.place)
	}
	return f
}
