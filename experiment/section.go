package experiment

import (
	"bytes"
	"errors"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// section is a JSON object as its members, in order.
type section []member

// member is one field of a section, as it was written.
type member struct {
	name string
	raw  jsontext.Value
}

// splitMembers reads one level of an object.
func splitMembers(raw jsontext.Value) (section, error) {
	if raw.Kind() != '{' {
		return nil, errors.New("want fields (type: …), not " + kindName(raw.Kind()))
	}
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	var s section
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, err
		}
		m := member{name: name.String()}
		value, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		m.raw = value.Clone()
		s = append(s, m)
	}
	return s, nil
}

func (s section) find(name string) (jsontext.Value, bool) {
	for _, m := range s {
		if m.name == name {
			return m.raw, true
		}
	}
	return nil, false
}

func (s section) names() []string {
	names := make([]string, len(s))
	for i, m := range s {
		names[i] = m.name
	}
	return names
}

// only returns the members of those names, without all others.
func (s section) only(names ...string) section {
	return slices.DeleteFunc(slices.Clone(s), func(m member) bool { return !slices.Contains(names, m.name) })
}

func (s section) without(names ...string) section {
	return slices.DeleteFunc(slices.Clone(s), func(m member) bool { return slices.Contains(names, m.name) })
}

func (s section) value() jsontext.Value {
	out := []byte{'{'}
	for i, m := range s {
		if i > 0 {
			out = append(out, ',')
		}
		name, _ := jsontext.AppendQuote(nil, m.name)
		out = append(append(append(out, name...), ':'), m.raw...)
	}
	return append(out, '}')
}
