package match

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// patternPrefix stands before a regular expression, as in other tools of this
// field.
const patternPrefix = "re2:"

// Names are names and patterns of names, in a file one or a list of them.
type Names []Name

// Name is a name, or a regular expression (RE2) for a whole name.
type Name struct {
	text    string
	pattern *regexp.Regexp // nil for a name
}

// ParseName reads a name, or re2: and a regular expression.
func ParseName(text string) (Name, error) {
	expr, ok := strings.CutPrefix(text, patternPrefix)
	switch {
	case text == "":
		return Name{}, errors.New("an empty name: leave it out to mean all")
	case !ok:
		return Name{text: text}, nil
	case expr == "":
		return Name{}, errors.New("re2: without a regular expression behind it")
	}
	pattern, err := regexp.Compile(expr) // by itself first: a)|(b is none, though ^(?:a)|(b)$ is
	if err == nil {
		pattern, err = regexp.Compile(`^(?:` + expr + `)$`)
	}
	if err != nil {
		return Name{}, fmt.Errorf("%q is not a regular expression: %s", expr, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return Name{text, pattern}, nil
}

// String gives the name as a file says it.
func (n Name) String() string { return n.text }

// Matches tells whether name is meant.
func (n Name) Matches(name string) bool {
	if n.pattern != nil {
		return n.pattern.MatchString(name)
	}
	return n.text == name
}

func (n Names) match(names []string) bool {
	return slices.ContainsFunc(n, func(one Name) bool { return slices.ContainsFunc(names, one.Matches) })
}

// String gives `"web" or "re2:db-.*"`.
func (n Names) String() string {
	words := make([]string, len(n))
	for i, one := range n {
		words[i] = strconv.Quote(one.text)
	}
	return strings.Join(words, " or ")
}

// TypeName implements experiment.Typed.
func (*Names) TypeName() string { return "name or list of names" }

// JSONSchema implements experiment.Shaped.
func (*Names) JSONSchema() string {
	const name = `{"type": "string", "minLength": 1}`
	return `{"anyOf": [` + name + `, {"type": "array", "minItems": 1, "items": ` + name + `}]}`
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Names) UnmarshalJSON(b []byte) error {
	var list []string
	wrong := errors.New("want a name such as web, a pattern such as re2:web-.*, or a list of them")
	switch jsontext.Value(b).Kind() {
	case '"':
		list = []string{""}
		if json.Unmarshal(b, &list[0]) != nil {
			return wrong
		}
	case '[':
		if json.Unmarshal(b, &list) != nil {
			return wrong
		}
	default:
		return wrong
	}
	if len(list) == 0 {
		return errors.New("an empty list: leave it out to mean all")
	}
	names := make(Names, len(list))
	for i, text := range list {
		var err error
		if names[i], err = ParseName(text); err != nil {
			return err
		}
	}
	*n = names
	return nil
}

// MarshalJSON implements json.Marshaler: one is written as itself.
func (n Names) MarshalJSON() ([]byte, error) {
	if len(n) == 1 {
		return json.Marshal(n[0].text)
	}
	list := make([]string, len(n))
	for i, one := range n {
		list[i] = one.text
	}
	return json.Marshal(list)
}
