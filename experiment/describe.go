package experiment

import (
	"encoding"
	"reflect"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Field is one field of a section, as `simian list` prints it.
type Field struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Doc  string `json:"doc"`
}

// Fields describes the fields of v, a pointer to or a value of a section.
func Fields(v any) []Field {
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	fields := []Field{}
	for _, f := range reflect.VisibleFields(t) {
		if name := fieldName(f); f.IsExported() && f.Tag.Get("json") != "" && name != "-" {
			fields = append(fields, Field{name, typeName(f.Type), f.Tag.Get("jsonschema")})
		}
	}
	return fields
}

// TargetFields describes the fields that every target has besides its own.
func TargetFields() []Field { return Fields(pick{}) }

func fieldNames(t reflect.Type) []string {
	var names []string
	if t == nil {
		return nil
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range Fields(reflect.Zero(t).Interface()) {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
}

// typeName gives the word for a field's type in lists.
func typeName(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[Duration]():
		return "duration"
	case reflect.TypeFor[Rate]():
		return "rate"
	case reflect.TypeFor[Bitrate]():
		return "bit rate"
	case reflect.TypeFor[Size]():
		return "size"
	case reflect.TypeFor[TargetSpec]():
		return "target"
	case reflect.TypeFor[Percent]():
		return "percent"
	case reflect.TypeFor[Bound]():
		return "number or duration"
	case reflect.TypeFor[Paths]():
		return "path or list of paths"
	}
	if v, ok := reflect.New(t).Interface().(Typed); ok {
		return v.TypeName()
	}
	if t.Kind() != reflect.String && reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return "text"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "text"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "whole number"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Slice:
		return "list of " + several(typeName(t.Elem()))
	case reflect.Map:
		return "map of " + several(typeName(t.Elem()))
	}
	return "fields"
}

func several(name string) string {
	switch name {
	case "text", "fields", "percent":
		return name
	}
	return name + "s"
}

// wanted says what a field of type t takes.
func wanted(t reflect.Type) string {
	if t == nil {
		return "something else"
	}
	switch name := typeName(t); name {
	case "duration":
		return "a duration such as 250ms or 10s"
	case "rate":
		return "a rate such as 50/s"
	case "bit rate":
		return "a bit rate such as 10mbit"
	case "size":
		return "a size such as 64MiB"
	case "percent":
		return "a percentage: a number from 0 to 100"
	case "boolean":
		return "true or false"
	case "text", "fields":
		return name
	case "whole number":
		if isUnsigned(t) {
			return "a whole number of 0 or more"
		}
		return "a whole number"
	default:
		return "a " + name
	}
}

func isUnsigned(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64
}

// got says what stood there instead. What stands where text belongs could be
// a secret, and is not repeated.
func got(e *json.SemanticError) string {
	if e.GoType != nil && typeName(e.GoType) == "text" {
		switch e.JSONKind {
		case '0', 't', 'f':
			return kindName(e.JSONKind) + ": put it in quotes"
		}
	}
	if len(e.JSONValue) > 0 && e.JSONKind == '0' {
		return "the number " + short(string(e.JSONValue))
	}
	return kindName(e.JSONKind)
}

func kindName(k jsontext.Kind) string {
	switch k {
	case '"':
		return "text"
	case '0':
		return "a number"
	case 't', 'f':
		return "true or false"
	case '{':
		return "fields"
	case '[':
		return "a list"
	}
	return "nothing"
}
