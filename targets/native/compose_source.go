package native

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v4"

	"github.com/simianhq/simian/experiment"
)

// maxFileBytes is how large a file may be that a Compose file is made of.
const maxFileBytes = 1 << 20

// source is one YAML document of a Compose file, as nodes: they know their
// lines, which compose-go's model does not.
type source struct {
	file string // as it was given
	dir  string // what its relative paths start from
	root *yaml.Node
}

// readFile reads a regular file of at most maxFileBytes. An error does not name
// the file.
func readFile(path string) ([]byte, error) {
	// A FIFO without a writer would otherwise hold up the open itself.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, bare(err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, bare(err)
	case info.IsDir():
		return nil, errors.New("is a directory")
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		err = fmt.Errorf("is larger than %d KiB", maxFileBytes>>10)
	}
	return data, bare(err)
}

// bare takes the operation and the path off an error of package os.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// parseSources returns the documents of a file.
func parseSources(file, dir string, data []byte) ([]source, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var list []source
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, yamlError(file, err)
		}
		if len(doc.Content) == 0 || doc.Content[0].ShortTag() == "!!null" {
			continue
		}
		root := doc.Content[0]
		if root.Kind != yaml.MappingNode {
			return nil, &experiment.FileError{File: file, Line: root.Line, Err: errors.New("want keys (services, networks, volumes)")}
		}
		list = append(list, source{file, dir, root})
	}
}

var yamlLine = regexp.MustCompile(`\bline (\d+)(?:, column \d+)?: `)

// yamlError takes the line out of the parser's message.
func yamlError(file string, err error) error {
	text, _, _ := strings.Cut(err.Error(), "\n")
	e := &experiment.FileError{File: file}
	// Where it tells two lines, the second is the one that is wrong.
	for m := yamlLine.FindStringSubmatchIndex(text); m != nil; m = yamlLine.FindStringSubmatchIndex(text) {
		e.Line, _ = strconv.Atoi(text[m[2]:m[3]])
		text = text[m[1]:]
	}
	e.Err = errors.New("not YAML: " + strings.TrimPrefix(text, "yaml: "))
	return e
}

// deref follows an alias.
func deref(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// child returns the value that a mapping has under key, of its own or merged
// into it (<<), and the node of the key; nil where it has none.
func child(n *yaml.Node, key string) (at, value *yaml.Node) {
	return childWithin(n, key, 16)
}

func childWithin(n *yaml.Node, key string, depth int) (at, value *yaml.Node) {
	n = deref(n)
	if n == nil || n.Kind != yaml.MappingNode || depth == 0 {
		return nil, nil
	}
	if at, value = own(n, key); at != nil {
		return at, value
	}
	_, merged := own(n, "<<")
	for _, m := range mergedFrom(merged) {
		if at, value = childWithin(m, key, depth-1); at != nil {
			return at, value
		}
	}
	return nil, nil
}

// own returns what a mapping itself has under key.
func own(n *yaml.Node, key string) (at, value *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

// mergedFrom returns the mappings that a merge key names.
func mergedFrom(n *yaml.Node) []*yaml.Node {
	n = deref(n)
	switch {
	case n == nil:
		return nil
	case n.Kind == yaml.SequenceNode:
		return n.Content
	}
	return []*yaml.Node{n}
}
