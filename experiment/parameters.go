package experiment

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reference is ${NAME}, or $${NAME}, which stands for the text ${NAME}.
var reference = regexp.MustCompile(`\$?\$\{([^}]*)\}`)

var parameterForm = regexp.MustCompile(parameterPattern)

const parameterPattern = `^[A-Za-z_][A-Za-z0-9_.-]*$`

// filler fills in the parameters of a file.
type filler struct {
	values map[string]*string // nil where neither --set nor a default gives one
	seen   map[*yaml.Node]bool
	size   int // bytes filled in
}

// substitute fills in ${NAME} in every value, but not in what the file says
// of itself nor in the parameters themselves.
func (d *document) substitute(set map[string]string) error {
	values := d.parameters()
	for _, name := range keys(set) {
		if _, ok := values[name]; !ok {
			return &lineError{0, fmt.Errorf("--set %s: the file declares no such parameter%s", name, valid("parameters", name, keys(values)))}
		}
		value := set[name]
		values[name] = &value
	}
	f := filler{values: values, seen: map[*yaml.Node]bool{}}
	return f.fill(d.root, 0)
}

// parameters returns the defaults of what the file declares. What is wrong
// with the declaration itself is found when it is decoded.
func (d *document) parameters() map[string]*string {
	values := map[string]*string{}
	_, spec := lookup(d.root, "spec")
	if spec == nil {
		return values
	}
	_, params := lookup(spec, "parameters")
	if params == nil || params.Kind != yaml.MappingNode {
		return values
	}
	for i := 0; i+1 < len(params.Content); i += 2 {
		name := params.Content[i].Value
		values[name] = nil
		if _, def := lookup(params.Content[i+1], "default"); def != nil && def.Kind == yaml.ScalarNode {
			text := def.Value
			values[name] = &text
		}
	}
	return values
}

func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (f *filler) fill(n *yaml.Node, depth int) error {
	if depth > maxDepth || f.seen[n] {
		return nil
	}
	f.seen[n] = true
	switch n.Kind {
	case yaml.AliasNode:
		return f.fill(n.Alias, depth+1)
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if depth == 0 && (key == "apiVersion" || key == "kind") || depth == 1 && key == "parameters" {
				continue
			}
			if err := f.fill(n.Content[i+1], depth+1); err != nil {
				return below(key, err)
			}
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			if err := f.fill(item, depth+1); err != nil {
				return below(strconv.Itoa(i), err)
			}
		}
	case yaml.ScalarNode:
		return f.fillScalar(n)
	}
	return nil
}

const quotedStyle = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle | yaml.TaggedStyle

// fillScalar fills in one value. Where it was written without quotes, what
// comes out is read as YAML reads it: a number may become a number.
func (f *filler) fillScalar(n *yaml.Node) error {
	var failed error
	text := reference.ReplaceAllStringFunc(n.Value, func(ref string) string {
		if failed != nil || strings.HasPrefix(ref, "$$") {
			return ref[1:]
		}
		var value string
		value, failed = f.value(ref[2 : len(ref)-1])
		return value
	})
	if failed != nil {
		return &placedError{"", failed}
	}
	if text != n.Value {
		n.Value = text
		if n.Style&quotedStyle == 0 {
			n.Tag = ""
		}
	}
	return nil
}

func (f *filler) value(name string) (string, error) {
	value, declared := f.values[name]
	switch {
	case !declared:
		return "", fmt.Errorf("${%s} is not declared%s", short(name), valid("parameters", name, keys(f.values)))
	case value == nil:
		return "", fmt.Errorf("${%s} has no value: say --set %s=…, or give it a default", name, name)
	}
	if f.size += len(*value); f.size > maxBytes {
		return "", fmt.Errorf("the values filled in are larger than %d KiB", maxBytes>>10)
	}
	return *value, nil
}
