package experiment

import (
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
	case reflect.TypeFor[Percent]():
		return "percent"
	case reflect.TypeFor[Bound]():
		return "number or duration"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "text"
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64, reflect.Uint16:
		return "whole number"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "list of " + typeName(t.Elem())
	case reflect.Map:
		return "map of " + typeName(t.Elem())
	}
	return "fields"
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
	case "percent":
		return "a percentage from 0 to 100"
	case "boolean":
		return "true or false"
	case "text":
		return "text"
	case "fields":
		return "fields"
	default:
		if t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			return "a " + name
		}
		return "a " + name
	}
}

func got(e *json.SemanticError) string {
	if len(e.JSONValue) > 0 && e.JSONKind == '0' {
		return "the number " + string(e.JSONValue)
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
