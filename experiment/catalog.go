package experiment

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Catalog is all the things of one kind, by the name that files call them.
// It is an explicit map literal; each constructor closes over what its thing
// needs to read.
type Catalog[T any] map[string]func() T

// Names returns the names in the catalogue, sorted.
func (c Catalog[T]) Names() []string { return slices.Sorted(maps.Keys(c)) }

// Name returns the name that v's type goes by, or "" where it is none of the
// catalogue's.
func (c Catalog[T]) Name(v T) string {
	for name, make := range c {
		if reflect.TypeOf(make()) == reflect.TypeOf(v) {
			return name
		}
	}
	return ""
}

// sectionError is an error inside a section that a catalogue decoded.
type sectionError struct {
	name string // the section's type
	err  error
}

func (e *sectionError) Error() string { return e.name + ": " + e.err.Error() }
func (e *sectionError) Unwrap() error { return e.err }

// unknownTypeError says that a section names no type, or one that is unknown.
type unknownTypeError struct {
	what, name string
	known      []string
}

func (e *unknownTypeError) Error() string {
	if e.name == "" {
		return "type is missing" + valid("types", e.name, e.known)
	}
	return fmt.Sprintf("unknown type %q%s", e.name, valid("types", e.name, e.known))
}

// decode reads a section {type: NAME, …} strictly: NAME must be in the
// catalogue, and every other member a field of it.
func (c Catalog[T]) decode(raw jsontext.Value, opts ...json.Options) (v T, name string, err error) {
	members, err := splitMembers(raw)
	if err != nil {
		return v, "", err
	}
	if err := json.Unmarshal(members.take("type"), &name); err != nil {
		return v, "", errors.New("type must be a word")
	}
	build, ok := c[name]
	if !ok {
		return v, name, &unknownTypeError{name: name, known: c.Names()}
	}
	v = build()
	into := any(v)
	if reflect.TypeOf(v).Kind() != reflect.Pointer {
		into = &v
	}
	if err := json.Unmarshal(members.value(), into, append(opts, json.RejectUnknownMembers(true))...); err != nil {
		return v, name, &sectionError{name, err}
	}
	return v, name, nil
}

// encode writes v as decode reads it.
func (c Catalog[T]) encode(v T) (jsontext.Value, error) {
	name := c.Name(v)
	if name == "" {
		return nil, fmt.Errorf("encode %T: it is not in the catalogue", v)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	members, err := splitMembers(raw)
	if err != nil {
		return nil, err
	}
	quoted, _ := json.Marshal(name)
	members = append(section{{"type", quoted}}, members...)
	return members.value(), nil
}

// unmarshaler decodes fields of type T by the catalogue.
func (c Catalog[T]) unmarshaler() *json.Unmarshalers {
	return json.UnmarshalFromFunc(func(dec *jsontext.Decoder, v *T) error {
		raw, err := dec.ReadValue()
		if err != nil {
			return err
		}
		*v, _, err = c.decode(raw)
		return err
	})
}

// marshaler encodes fields of type T by the catalogue.
func (c Catalog[T]) marshaler() *json.Marshalers {
	return json.MarshalToFunc(func(enc *jsontext.Encoder, v T) error {
		if any(v) == nil || reflect.ValueOf(v).Kind() == reflect.Pointer && reflect.ValueOf(v).IsNil() {
			return enc.WriteToken(jsontext.Null)
		}
		raw, err := c.encode(v)
		if err != nil {
			return err
		}
		return enc.WriteValue(raw)
	})
}

// section is a JSON object as its members, in order.
type section []member

type member struct {
	name string
	raw  jsontext.Value
}

func splitMembers(raw jsontext.Value) (section, error) {
	if raw.Kind() != '{' {
		return nil, errors.New("want fields (type: …), not " + kindName(raw.Kind()))
	}
	dec := jsontext.NewDecoder(newReader(raw))
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

// take removes the named member and returns its value, "" where there is none.
func (s *section) take(name string) jsontext.Value {
	for i, m := range *s {
		if m.name == name {
			*s = slices.Delete(*s, i, i+1)
			return m.raw
		}
	}
	return jsontext.Value(`""`)
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

// pick is the part of a target section that is the same for every selector.
type pick struct {
	Mode    Mode    `json:"mode,omitzero" jsonschema:"how many of those found: one (default), all, fixed, fixed-percent, random-max-percent"`
	Count   int     `json:"count,omitzero" jsonschema:"for mode fixed"`
	Percent Percent `json:"percent,omitzero" jsonschema:"for the modes with percent in their name"`
}

// targetUnmarshaler splits a target section into what every selector has and
// what its own type has.
func targetUnmarshaler(c Catalog[Selector]) *json.Unmarshalers {
	return json.UnmarshalFromFunc(func(dec *jsontext.Decoder, t *TargetSpec) error {
		raw, err := dec.ReadValue()
		if err != nil {
			return err
		}
		members, err := splitMembers(raw)
		if err != nil {
			return err
		}
		var common, own section
		for _, m := range members {
			if m.name == "mode" || m.name == "count" || m.name == "percent" {
				common = append(common, m)
			} else {
				own = append(own, m)
			}
		}
		var p pick
		if err := json.Unmarshal(common.value(), &p); err != nil {
			return &sectionError{"", err}
		}
		*t = TargetSpec{Mode: p.Mode, Count: p.Count, Percent: p.Percent}
		t.Selector, t.Type, err = c.decode(own.value())
		return err
	})
}

func targetMarshaler(c Catalog[Selector]) *json.Marshalers {
	return json.MarshalToFunc(func(enc *jsontext.Encoder, t TargetSpec) error {
		raw, err := c.encode(t.Selector)
		if err != nil {
			return err
		}
		common, err := json.Marshal(pick{t.Mode, t.Count, t.Percent})
		if err != nil {
			return err
		}
		own, err := splitMembers(raw)
		if err != nil {
			return err
		}
		more, err := splitMembers(common)
		if err != nil {
			return err
		}
		return enc.WriteValue(append(own, more...).value())
	})
}
