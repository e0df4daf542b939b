package native

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// How much a document may hold, so that aliases cannot make a small one large.
const (
	maxNodes = 50_000
	maxDepth = 50
)

// lint looks at a document before compose-go does: its errors have their line.
type lint struct {
	source  source
	vars    variables
	said    map[string]bool
	weights map[*yaml.Node]int // of nodes with those that aliases repeat; -1 while they are counted
}

func (c *compose) lint(s source) error {
	l := lint{s, c.vars, c.said, map[*yaml.Node]int{}}
	if e := l.check(s.root, 0); e != nil {
		return e
	}
	if _, e := l.weigh(s.root); e != nil {
		return e
	}
	return nil
}

func (l *lint) errorf(n *yaml.Node, format string, args ...any) *placedError {
	return &placedError{file: l.source.file, line: n.Line, err: fmt.Errorf(format, args...)}
}

// check looks at a node and all below it, but not through aliases: what they
// stand for is looked at in its own place.
func (l *lint) check(n *yaml.Node, depth int) *placedError {
	if depth > maxDepth {
		return l.errorf(n, "nested deeper than %d levels", maxDepth)
	}
	switch n.Kind {
	case yaml.MappingNode:
		return l.mapping(n, depth)
	case yaml.SequenceNode:
		for i, item := range n.Content {
			if e := l.check(item, depth+1); e != nil {
				return e.below(strconv.Itoa(i))
			}
		}
	case yaml.ScalarNode:
		return l.scalar(n)
	}
	return nil
}

// below moves the place of e down by a level. Places are put together where
// there is an error only.
func (e *placedError) below(token string) *placedError {
	e.place = e.place.within(token)
	return e
}

func (l *lint) mapping(n *yaml.Node, depth int) *placedError {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" && key.ShortTag() != "!!merge" {
			return l.errorf(key, "a key must be text: put %s in quotes", shown(key.Value))
		}
		if line, twice := seen[key.Value]; twice {
			return l.errorf(key, "stands here twice (first in line %d)", line).below(key.Value)
		}
		seen[key.Value], l.said[key.Value] = key.Line, true
		if e := l.check(value, depth+1); e != nil {
			return e.below(key.Value)
		}
	}
	return nil
}

func (l *lint) scalar(n *yaml.Node) *placedError {
	if strings.ContainsRune(n.Value, 0) {
		return l.errorf(n, "holds a NUL byte")
	}
	if word := strings.ToLower(strings.TrimLeft(n.Value, "+-.")); n.ShortTag() == "!!float" && (word == "nan" || word == "inf") {
		return l.errorf(n, "%s is not a number that can be used here", n.Value)
	}
	if _, err := l.vars.expand(n.Value); err != nil {
		return &placedError{file: l.source.file, line: n.Line, err: err}
	}
	return nil
}

// weigh counts the nodes that n stands for, with those that aliases repeat.
func (l *lint) weigh(n *yaml.Node) (int, *placedError) {
	if n.Kind == yaml.AliasNode {
		return l.weigh(n.Alias)
	}
	weight, known := l.weights[n]
	switch {
	case known && weight < 0:
		return 0, l.errorf(n, "stands for itself")
	case known:
		return weight, nil
	}
	l.weights[n], weight = -1, 1
	for _, item := range n.Content {
		w, e := l.weigh(item)
		if e != nil {
			return 0, e
		}
		if weight += w; weight > maxNodes {
			return 0, l.errorf(n, "holds more than %d values, with those that aliases repeat", maxNodes)
		}
	}
	l.weights[n] = weight
	return weight, nil
}

// base is a service that another one extends.
type base struct {
	source source
	node   *yaml.Node
	line   int
}

// baseKey is a service of a document.
type baseKey struct {
	root    *yaml.Node
	service string
}

// extended finds the services that the services of s extend, and reads the
// files they stand in: compose-go would read anything.
func (c *compose) extended(s source) error {
	_, services := child(s.root, "services")
	if services = deref(services); services == nil || services.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(services.Content); i += 2 {
		name := services.Content[i].Value
		from := base{s, services.Content[i+1], services.Content[i].Line}
		list, err := c.chain(from, name, nil)
		if err != nil {
			return err
		}
		c.bases[baseKey{s.root, name}] = list
	}
	return nil
}

// chain returns what the service at from extends, the nearest first. via are
// the services on the way there.
func (c *compose) chain(from base, name string, via []string) ([]base, error) {
	key, value := child(from.node, "extends")
	if key == nil {
		return nil, nil
	}
	via = append(via, name)
	fail := func(format string, args ...any) error {
		p := at("services", name, "extends")
		return &placedError{place: p, file: from.source.file, line: key.Line, err: fmt.Errorf(format, args...)}
	}
	if len(via) > maxDepth {
		return nil, fail("extends itself: %s …", strings.Join(via[:3], " -> "))
	}
	ref, file := c.text(value), ""
	if _, v := child(value, "service"); v != nil {
		ref = c.text(v)
		_, f := child(value, "file")
		file = c.text(f)
	}
	next, err := c.base(from.source, file, ref)
	if err != nil {
		return nil, fail("%w", err)
	}
	rest, err := c.chain(next, ref, via)
	return append([]base{next}, rest...), err
}

// base finds a service to be extended.
func (c *compose) base(from source, file, service string) (base, error) {
	sources := []source{from}
	if file != "" {
		var err error
		if sources, err = c.baseFile(from, file); err != nil {
			return base{}, fmt.Errorf("%s: %w", file, err)
		}
	}
	for _, s := range sources {
		_, services := child(s.root, "services")
		if key, value := child(services, service); key != nil {
			return base{s, value, key.Line}, nil
		}
	}
	return base{}, fmt.Errorf("there is no service %s in %s", shown(service), sources[0].file)
}
