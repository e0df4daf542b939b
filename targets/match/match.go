// Package match is how every selector of containers and pods is told which
// ones: by names and patterns, by labels, and what is left out. It also reads
// from labels which workload a container is one of, so that "one of each
// service" means the same everywhere.
package match

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/simianhq/simian/experiment"
)

// Match names containers or pods. It is embedded in selectors. All that it is
// told must hold; told nothing, it matches everything.
type Match struct {
	Names   Names    `json:"names,omitempty" jsonschema:"names, or re2: and a regular expression for the whole name, or a list of both: any of them"`
	Labels  Labels   `json:"labels,omitzero" jsonschema:"labels it must have: a mapping, or Kubernetes' syntax, such as app=web,tier in (a,b),!canary"`
	Exclude *Exclude `json:"exclude,omitempty" jsonschema:"what is left out of that: all that matches any of these"`
}

// Exclude is what a Match leaves out: all that matches any field.
type Exclude struct {
	Names  Names  `json:"names,omitempty" jsonschema:"names, or re2: and a regular expression for the whole name, or a list of both"`
	Labels Labels `json:"labels,omitzero" jsonschema:"labels, as a mapping or in Kubernetes' syntax"`
}

// Validate implements experiment.Validator.
func (x Exclude) Validate() error {
	if len(x.Names) == 0 && x.Labels.Empty() {
		return errors.New("says nothing of what is left out: give names or labels")
	}
	return nil
}

// Matches tells whether m means something that is called by any of names, the
// first of which is its own, and has labels.
func (m *Match) Matches(labels map[string]string, names ...string) bool {
	if len(m.Names) > 0 && !m.Names.match(names) || !m.Labels.Matches(labels) {
		return false
	}
	x := m.Exclude
	return x == nil || !(x.Names.match(names) || !x.Labels.Empty() && x.Labels.Matches(labels))
}

// Empty tells whether m matches everything.
func (m *Match) Empty() bool { return len(m.Names) == 0 && m.Labels.Empty() && m.Exclude == nil }

// String is m in words: `name "web", labels tier=a, without name "web-2"`.
func (m *Match) String() string {
	var words []string
	words = append(words, inWords(m.Names, m.Labels)...)
	if m.Exclude != nil {
		words = append(words, "without "+strings.Join(inWords(m.Exclude.Names, m.Exclude.Labels), " or "))
	}
	if len(words) == 0 {
		return "any"
	}
	return strings.Join(words, ", ")
}

func inWords(names Names, labels Labels) []string {
	var words []string
	if len(names) > 0 {
		words = append(words, "name "+names.String())
	}
	if !labels.Empty() {
		words = append(words, "labels "+labels.String())
	}
	return words
}

// None is the error of a selector that found nothing: kind is what it looked
// for ("container"), there are the names of what is there.
func (m *Match) None(kind string, there []string) error {
	err := fmt.Errorf("no %s that runs is %s: %w", kind, m, experiment.ErrNoMatch)
	near := m.Nearest(there)
	switch {
	case len(there) == 0:
		return fmt.Errorf("%w\n        no %s runs here", err, kind)
	case len(near) > 0:
		return fmt.Errorf("%w\n        did you mean %s?", err, plainly(near))
	case len(there) == 1:
		return fmt.Errorf("%w\n        there is %s", err, plainly(there))
	case len(there) <= shown:
		return fmt.Errorf("%w\n        there are %s", err, plainly(there))
	}
	return fmt.Errorf("%w\n        there are %s and %d more", err, plainly(there[:shown]), len(there)-shown)
}

// plainly lists names, each of which could hold what upsets a terminal.
func plainly(names []string) string {
	words := slices.Clone(names)
	for i, name := range words {
		if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
			words[i] = strconv.Quote(name)
		}
	}
	return strings.Join(words, ", ")
}

// shown is how many names an error lists.
const shown = 12

// Nearest returns those of there that the names of m may have meant.
func (m *Match) Nearest(there []string) []string {
	var near []string
	for _, n := range m.Names {
		if n.pattern != nil {
			continue
		}
		if one := experiment.Nearest(n.text, there); one != "" && !slices.Contains(near, one) {
			near = append(near, one)
		}
	}
	return near
}
