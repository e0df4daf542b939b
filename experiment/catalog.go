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
// catalogue's. A pointer goes by the name of what it points to.
func (c Catalog[T]) Name(v T) string {
	t := reflect.TypeOf(v)
	for _, name := range c.Names() {
		have := reflect.TypeOf(c[name]())
		if have == t || t != nil && t.Kind() == reflect.Pointer && have == t.Elem() {
			return name
		}
	}
	return ""
}

// plural is what `simian list` calls what the catalogue holds; ops, which no
// file names, are not listed.
func (c Catalog[T]) plural() string {
	switch reflect.TypeFor[T]() {
	case reflect.TypeFor[Fault]():
		return "faults"
	case reflect.TypeFor[Selector]():
		return "targets"
	case reflect.TypeFor[Probe]():
		return "probes"
	}
	return ""
}

// unknownType says that name is none of the catalogue's.
func (c Catalog[T]) unknownType(problem, name string) error {
	if c.plural() == "" {
		return errors.New(problem)
	}
	return errors.New(problem + valid("types", name, c.Names(), c.plural()))
}

// typeOf returns the type that a section names.
func (c Catalog[T]) typeOf(s section) (string, error) {
	raw, ok := s.find("type")
	if !ok {
		var p *placedError
		if err := missing("type", "", s.names()); errors.As(err, &p) && p.ptr != "" {
			return "", err
		}
		return "", c.unknownType("type is missing", "")
	}
	if raw.Kind() != '"' {
		return "", &placedError{"/type", errors.New("want text, not " + kindName(raw.Kind()))}
	}
	var name string
	if err := json.Unmarshal(raw, &name); err != nil {
		return "", &placedError{"/type", err}
	}
	if name == "" {
		return "", c.unknownType("type is missing", "")
	}
	if _, ok := c[name]; !ok {
		return "", c.unknownType("unknown type "+quote(name), name)
	}
	return name, nil
}

// decode reads a section {type: NAME, …} strictly: NAME must be in the
// catalogue, and every other member a field of it. Options decode what is
// nested in it. An error is a *sectionError.
func (c Catalog[T]) decode(raw jsontext.Value, options json.Options) (v T, name string, err error) {
	members, err := splitMembers(raw)
	if err != nil {
		return v, "", &sectionError{err: err}
	}
	if name, err = c.typeOf(members); err != nil {
		return v, "", &sectionError{err: err}
	}
	into := reflect.New(reflect.TypeOf(c[name]()))
	into.Elem().Set(reflect.ValueOf(c[name]()))
	own := members.without("type").value()
	if err := json.Unmarshal(own, into.Interface(), options, json.RejectUnknownMembers(true)); err != nil {
		return v, name, &sectionError{name: name, err: err}
	}
	return into.Elem().Interface().(T), name, nil
}

// encode writes v as decode reads it.
func (c Catalog[T]) encode(v T) (jsontext.Value, error) {
	name := c.Name(v)
	if name == "" {
		return nil, fmt.Errorf("encode %T: it is not in the catalogue", v)
	}
	raw, err := json.Marshal(v, json.Deterministic(true), json.WithMarshalers(durationMarshaler()))
	if err != nil {
		return nil, err
	}
	members, err := splitMembers(raw)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	quoted, err := json.Marshal(name)
	if err != nil {
		return nil, err
	}
	return append(section{{"type", quoted}}, members...).value(), nil
}

// unmarshaler decodes fields of type T by the catalogue.
func (c Catalog[T]) unmarshaler() *json.Unmarshalers {
	return json.UnmarshalFromFunc(func(dec *jsontext.Decoder, v *T) error {
		raw, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if raw.Kind() == 'n' { // as marshaler writes nil; a file holds no null
			var none T
			*v = none
			return nil
		}
		*v, _, err = c.decode(raw, dec.Options())
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
