package experiment

import (
	"encoding"
	stdjson "encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/google/jsonschema-go/jsonschema"
)

// referencePattern finds a ${NAME} in a text.
const referencePattern = `\$\{[^}]*\}`

const schemaDoc = "An experiment file of Simian. Wherever a value stands, a text that holds a ${NAME} may stand as well: " +
	"--set or the parameter's default fills it in, and only then it is read as a number, a duration or one of the words allowed."

// Schema returns the JSON Schema (draft 2020-12) of the experiment file, with
// the fields of everything in the catalogues. Each file that Load accepts
// keeps to it; what spans several fields is for Load to judge.
func (l Loader) Schema() ([]byte, error) {
	b := schemaBuilder{types: fixedTypes(), defs: map[string]*jsonschema.Schema{}}
	for t, name := range map[reflect.Type]string{
		reflect.TypeFor[Fault](): "fault", reflect.TypeFor[TargetSpec](): "target", reflect.TypeFor[Probe](): "probe",
	} {
		b.types[t] = &jsonschema.Schema{Ref: "#/$defs/" + name}
	}
	for _, err := range []error{
		addCatalog(b, "fault", l.Faults, nil),
		addCatalog(b, "target", l.Targets, reflect.TypeFor[pick]()),
		addCatalog(b, "probe", l.Probes, nil),
	} {
		if err != nil {
			return nil, err
		}
	}
	root, err := b.of(reflect.TypeFor[Experiment]())
	if err != nil {
		return nil, err
	}
	root.Schema = "https://json-schema.org/draft/2020-12/schema"
	root.Title, root.Description = "Simian experiment", schemaDoc
	narrow(root)
	root.Defs = b.defs
	return stdjson.MarshalIndent(root, "", "  ")
}

// narrow says what the Go types do not.
func narrow(root *jsonschema.Schema) {
	at := func(path ...string) *jsonschema.Schema {
		s := root
		for _, name := range path {
			if name == "[]" {
				s = s.Items
			} else {
				s = s.Properties[name]
			}
		}
		return s
	}
	constant := func(s *jsonschema.Schema, v any) { s.Type, s.Const = "", &v }
	constant(at("apiVersion"), APIVersion)
	constant(at("kind"), Kind)
	name := text(namePattern, at("metadata", "name").Description)
	name.AnyOf[0].MaxLength = jsonschema.Ptr(maxName)
	*at("metadata", "name") = *name
	at("spec", "parameters").PropertyNames = &jsonschema.Schema{Pattern: parameterPattern}
	at("spec", "method").MinItems = jsonschema.Ptr(1)
	*at("spec", "traffic", "[]", "url") = *text(`^[hH][tT][tT][pP][sS]?://.`, at("spec", "traffic", "[]", "url").Description)
	check := at("spec", "hypothesis", "checks", "[]")
	*check.Properties["measure"] = *words(append([]string{""}, measures...), check.Properties["measure"].Description)
	positive(check.Properties["weight"])
	positive(at("spec", "blastRadius", "percent"))
	notNegative(at("spec", "blastRadius", "targets"))
	notNegative(at("spec", "abort", "after"))
	notNegative(at("spec", "method", "[]", "repeat", "times"))
	check.AllOf = []*jsonschema.Schema{eitherOf("min", "max"), eitherOf("traffic", "probe")}
}

// The number is the first of what a field may hold, a reference the second.
func notNegative(s *jsonschema.Schema) { s.AnyOf[0].Minimum = jsonschema.Ptr(0.0) }
func positive(s *jsonschema.Schema)    { s.AnyOf[0].ExclusiveMinimum = jsonschema.Ptr(0.0) }

func eitherOf(fields ...string) *jsonschema.Schema {
	s := &jsonschema.Schema{}
	for _, f := range fields {
		s.AnyOf = append(s.AnyOf, &jsonschema.Schema{Required: []string{f}})
	}
	return s
}

// text is a text that matches pattern, or holds a reference.
func text(pattern, doc string) *jsonschema.Schema {
	return orReference(&jsonschema.Schema{Type: "string", Pattern: pattern, Description: doc})
}

func words(list []string, doc string) *jsonschema.Schema {
	s := &jsonschema.Schema{Description: doc}
	for _, w := range list {
		s.Enum = append(s.Enum, w)
	}
	return orReference(s)
}

// orReference lets a text with a ${NAME} stand for what s describes.
func orReference(s *jsonschema.Schema) *jsonschema.Schema {
	doc := s.Description
	s.Description = ""
	return &jsonschema.Schema{
		Description: doc,
		AnyOf:       []*jsonschema.Schema{s, {Type: "string", Pattern: referencePattern}},
	}
}

// fixedTypes describes the types that read themselves.
func fixedTypes() map[reflect.Type]*jsonschema.Schema {
	return map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[Duration](): text(durationPattern, ""),
		reflect.TypeFor[Rate]():     text(ratePattern, ""),
		reflect.TypeFor[Bitrate]():  text(bitratePattern, ""),
		reflect.TypeFor[Size]():     text(sizePattern, ""),
		reflect.TypeFor[Percent](): orReference(&jsonschema.Schema{
			Type: "number", Minimum: jsonschema.Ptr(0.0), Maximum: jsonschema.Ptr(100.0),
		}),
		reflect.TypeFor[Bound](): {AnyOf: []*jsonschema.Schema{
			{Type: "number"}, {Type: "string", Pattern: durationPattern}, {Type: "string", Pattern: referencePattern},
		}},
		reflect.TypeFor[Paths](): {AnyOf: []*jsonschema.Schema{
			{Type: "string"}, {Type: "array", Items: &jsonschema.Schema{Type: "string"}, MinItems: jsonschema.Ptr(1)},
		}},
		reflect.TypeFor[Scalar](): {Types: []string{"string", "number", "boolean"}},
		reflect.TypeFor[Mode]():   words(append([]string{""}, modes...), ""),

		reflect.TypeFor[GroupBy](): text(`^(workload|label:.+)?$`, ""),

		reflect.TypeFor[OnRestart](): words(append([]string{""}, onRestarts...), ""),
		reflect.TypeFor[AtLeast](): {AnyOf: []*jsonschema.Schema{
			{Type: "integer", Minimum: jsonschema.Ptr(1.0)}, {Type: "string", Pattern: sharePattern}, {Type: "string", Pattern: referencePattern},
		}},
	}
}

// schemaBuilder makes schemas of Go types.
type schemaBuilder struct {
	types map[reflect.Type]*jsonschema.Schema
	defs  map[string]*jsonschema.Schema
}

// of returns the schema of t as a file may hold it: nothing is null, and a
// reference may stand for what is not text.
func (b schemaBuilder) of(t reflect.Type) (*jsonschema.Schema, error) {
	b.selfReading(t)
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: b.types})
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", t, err)
	}
	b.tidy(s)
	return s, nil
}

// selfReading notes all types below t that read themselves from text, or from
// anything.
func (b schemaBuilder) selfReading(t reflect.Type) {
	if b.types[t] != nil {
		return
	}
	switch p := reflect.PointerTo(t); {
	case t.Kind() == reflect.Pointer, t.Kind() == reflect.Interface:
	case p.Implements(reflect.TypeFor[Shaped]()):
		b.types[t] = shapeOf(reflect.New(t).Interface().(Shaped))
		return
	case p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		b.types[t] = &jsonschema.Schema{Type: "string"}
		return
	case p.Implements(reflect.TypeFor[json.Unmarshaler]()), p.Implements(reflect.TypeFor[json.UnmarshalerFrom]()):
		b.types[t] = &jsonschema.Schema{}
		return
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		b.selfReading(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.Anonymous || f.IsExported() && fieldName(f) != "-" {
				b.selfReading(f.Type)
			}
		}
	}
}

// shapeOf is what a type says of itself; one that is no schema describes
// anything.
func shapeOf(t Shaped) *jsonschema.Schema {
	s := &jsonschema.Schema{}
	if stdjson.Unmarshal([]byte(t.JSONSchema()), s) != nil {
		return &jsonschema.Schema{}
	}
	return s
}

func (b schemaBuilder) tidy(s *jsonschema.Schema) {
	if i := slices.Index(s.Types, "null"); i >= 0 {
		s.Types = slices.Delete(slices.Clone(s.Types), i, i+1)
	}
	if len(s.Types) == 0 {
		s.Types = nil
	}
	if len(s.Types) == 1 {
		s.Type, s.Types = s.Types[0], nil
	}
	for _, p := range s.Properties {
		b.tidy(p)
	}
	for _, p := range []*jsonschema.Schema{s.Items, s.AdditionalProperties} {
		if p != nil {
			b.tidy(p)
		}
	}
	if s.Type == "integer" || s.Type == "number" || s.Type == "boolean" {
		plain := *s
		*s = *orReference(&plain)
	}
}

// addCatalog describes a section by its type: "fault" is any of them, and
// "fault.kill" one. Common has the fields that all of them share.
func addCatalog[T any](b schemaBuilder, what string, c Catalog[T], common reflect.Type) error {
	section := &jsonschema.Schema{
		Type: "object", Required: []string{"type"},
		Properties: map[string]*jsonschema.Schema{"type": words(c.Names(), "one of simian list "+c.plural())},
	}
	for _, name := range c.Names() {
		one, err := b.section(name, reflect.TypeOf(c[name]()), common)
		if err != nil {
			return err
		}
		b.defs[what+"."+name] = one
		section.AllOf = append(section.AllOf, &jsonschema.Schema{
			If:   &jsonschema.Schema{Properties: map[string]*jsonschema.Schema{"type": isType(name)}},
			Then: &jsonschema.Schema{Ref: "#/$defs/" + what + "." + name},
		})
	}
	b.defs[what] = section
	return nil
}

func isType(name string) *jsonschema.Schema {
	var v any = name
	return &jsonschema.Schema{Const: &v}
}

// section describes a section of one type. Which of its fields it needs is
// for its Validate to say.
func (b schemaBuilder) section(name string, t, common reflect.Type) (*jsonschema.Schema, error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	s := &jsonschema.Schema{Properties: map[string]*jsonschema.Schema{}}
	for _, part := range []reflect.Type{t, common} {
		if part == nil || part.Kind() != reflect.Struct {
			continue
		}
		fields, err := b.of(part)
		if err != nil {
			return nil, err
		}
		if part == common {
			notNegative(fields.Properties["count"])
		}
		optional(fields)
		s.PropertyOrder = append(s.PropertyOrder, fields.PropertyOrder...)
		maps.Copy(s.Properties, fields.Properties)
	}
	s.Type, s.AdditionalProperties = "object", &jsonschema.Schema{Not: &jsonschema.Schema{}}
	s.Required = []string{"type"}
	s.Properties["type"] = isType(name)
	s.PropertyOrder = append([]string{"type"}, s.PropertyOrder...)
	return s, nil
}

func optional(s *jsonschema.Schema) {
	s.Required = nil
	for _, p := range s.Properties {
		optional(p)
	}
	for _, p := range []*jsonschema.Schema{s.Items, s.AdditionalProperties} {
		if p != nil {
			optional(p)
		}
	}
}
