package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// node is a value of an experiment file that is written from flags: text as
// YAML has it, a list, or fields in order.
type node struct {
	text   string
	list   []node
	fields []field
}

// field is a field of a file, with its value.
type field struct {
	name string
	node node
}

// put sets the field at path, made where it is missing.
func (n *node) put(v node, path ...string) {
	for _, name := range path {
		i := slices.IndexFunc(n.fields, func(f field) bool { return f.name == name })
		if i < 0 {
			n.fields = append(n.fields, field{name: name})
			i = len(n.fields) - 1
		}
		n = &n.fields[i].node
	}
	*n = v
}

// write appends n as YAML, in the block style people write.
func (n node) write(b *strings.Builder, indent string) {
	switch {
	case n.fields != nil:
		for i, f := range n.fields {
			if i > 0 {
				b.WriteString(indent)
			}
			b.WriteString(f.name + ":")
			if f.node.fields != nil {
				b.WriteString("\n" + indent + "  ")
				f.node.write(b, indent+"  ")
				continue
			}
			if len(f.node.list) > 0 && f.node.list[0].fields != nil {
				for _, item := range f.node.list {
					b.WriteString("\n" + indent + "  - ")
					item.write(b, indent+"    ")
				}
				continue
			}
			b.WriteString(" ")
			f.node.write(b, indent)
		}
	case n.list != nil:
		words := make([]string, len(n.list))
		for i, item := range n.list {
			words[i] = item.text
		}
		b.WriteString("[" + strings.Join(words, ", ") + "]\n")
	default:
		b.WriteString(n.text + "\n")
	}
}

// Forms of what is written without quotes.
var (
	numberForm = regexp.MustCompile(`^[-+]?[0-9]+(\.[0-9]+)?$`)
	wordForm   = regexp.MustCompile(`^[A-Za-z_/][-A-Za-z0-9_./]*$`)
	mildForm   = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?[A-Za-zµ/%][A-Za-z0-9µ.]*$`) // 100ms, 10mbit, 50/s
	keyword    = regexp.MustCompile(`^(?i:true|false|yes|no|on|off|null|y|n|0x.*|0o.*|[0-9_]+e[0-9]+)$`)
)

// quoted is text that stays text.
func quoted(text string) node {
	text = strings.ReplaceAll(text, "${", "$${") // the file that comes of it has no parameters
	if (wordForm.MatchString(text) || mildForm.MatchString(text)) && !keyword.MatchString(text) {
		return node{text: text}
	}
	return node{text: strconv.Quote(text)}
}

// guessed is a number, true or false, or fields and lists in YAML's {} and []
// as they are, and all else as text.
func guessed(text string) node {
	flow := strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}") || strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]")
	if text == "true" || text == "false" || numberForm.MatchString(text) || flow {
		return node{text: strings.ReplaceAll(text, "${", "$${")}
	}
	return quoted(text)
}

// valueOf reads the values of one flag as a field of that type takes them.
func valueOf(f experiment.Field, values []string) node {
	list := strings.HasPrefix(f.Type, "list of ") || strings.Contains(f.Type, " or list of ")
	last := values[len(values)-1]
	switch {
	case f.Type == "text":
		return quoted(last)
	case !list && f.Type != "target", f.Type == "target" && strings.HasPrefix(last, "{"), strings.HasPrefix(last, "["):
		return guessed(last)
	case f.Type == "target":
		kind, value, _ := strings.Cut(last, ":")
		n := node{}
		n.put(quoted(kind), "type")
		selected(&n, kind, []string{value})
		return n
	}
	var items []node
	for _, value := range values {
		for _, part := range splitList(f, value) {
			items = append(items, itemOf(f, part))
		}
	}
	if len(items) == 1 && strings.Contains(f.Type, " or list of ") {
		return items[0]
	}
	return node{list: items}
}

// splitList cuts at commas, but not a command line's words, which hold them.
func splitList(f experiment.Field, value string) []string {
	if f.Name == "command" || f.Name == "undo" {
		return []string{value}
	}
	return strings.Split(value, ",")
}

func itemOf(f experiment.Field, part string) node {
	if f.Type == "list of text" || strings.HasPrefix(f.Type, "path") || strings.HasPrefix(f.Type, "name") {
		return quoted(part)
	}
	return guessed(part)
}

// selected adds to a target's section what a flag such as --docker or --process
// says: names, a pid, or a label selector.
func selected(target *node, kind string, values []string) {
	if kind == "process" {
		name := "name"
		if _, err := strconv.Atoi(values[0]); err == nil {
			name = "pid"
		}
		target.put(guessed(values[0]), name)
		if name == "name" {
			target.put(quoted(values[0]), name)
		}
		return
	}
	var names []node
	var labels []string
	for _, value := range values {
		if value == "" {
			continue // all of them
		}
		if !strings.HasPrefix(value, "re2:") && strings.ContainsAny(value, "=!(") {
			labels = append(labels, value)
			continue
		}
		for _, name := range strings.Split(value, ",") {
			names = append(names, quoted(name))
		}
	}
	if len(names) > 0 {
		target.put(node{list: names}, "names")
	}
	if len(labels) > 0 {
		target.put(node{text: strconv.Quote(strings.Join(labels, ","))}, "labels")
	}
}

// pairs reads path=value, each path with dots, into fields below n.
func pairs(n *node, flag string, given []string) error {
	for _, pair := range given {
		path, value, ok := strings.Cut(pair, "=")
		if !ok || path == "" || slices.Contains(strings.Split(path, "."), "") || !wordForm.MatchString(path) {
			return usage(fmt.Errorf("--%s %s: want path=value, such as loss.percent=5", flag, pair))
		}
		n.put(guessed(value), strings.Split(path, ".")...)
	}
	return nil
}
