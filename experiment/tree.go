package experiment

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// placedError is an error with the JSON pointer of what is wrong.
type placedError struct {
	ptr jsontext.Pointer
	err error
}

func (e *placedError) Error() string { return string(e.ptr) + ": " + e.err.Error() }

// validate asks every value of e that can validate itself, the outer ones
// last, and places the first error.
func (l Loader) validate(e *Experiment) error {
	if err := l.validateTree(reflect.ValueOf(e), ""); err != nil {
		return err
	}
	return nil
}

func (l Loader) validateTree(v reflect.Value, ptr jsontext.Pointer) *placedError {
	err := l.validateParts(v, ptr)
	if err == nil {
		err = validateValue(v, ptr)
	}
	if name := l.section(v); err != nil && name != "" {
		err.err = &sectionError{name: name, err: err.err}
	}
	return err
}

// section names the type of the catalogue section that v is, or "".
func (l Loader) section(v reflect.Value) string {
	if v.Kind() == reflect.Interface && v.IsNil() {
		return ""
	}
	switch v.Type() {
	case reflect.TypeFor[Fault]():
		return l.Faults.Name(v.Interface().(Fault))
	case reflect.TypeFor[Probe]():
		return l.Probes.Name(v.Interface().(Probe))
	case reflect.TypeFor[TargetSpec]():
		return v.Interface().(TargetSpec).Type
	}
	return ""
}

func validateValue(v reflect.Value, ptr jsontext.Pointer) *placedError {
	if v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface || !v.CanInterface() {
		return nil // what it points to was asked, or what embeds it is
	}
	c, ok := v.Interface().(Validator)
	if !ok && v.CanAddr() {
		c, ok = v.Addr().Interface().(Validator)
	}
	if !ok {
		return nil
	}
	err := c.Validate()
	var f *FieldError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return &placedError{ptr + jsontext.Pointer("/"+f.Field), f.Err}
	}
	return &placedError{ptr, err}
}

func (l Loader) validateParts(v reflect.Value, ptr jsontext.Pointer) *placedError {
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			return l.validateTree(v.Elem(), ptr)
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := l.validateTree(v.Index(i), ptr.AppendToken(strconv.Itoa(i))); err != nil {
				return err
			}
		}
	case reflect.Map:
		return l.validateMap(v, ptr)
	case reflect.Struct:
		return l.validateFields(v, ptr)
	}
	return nil
}

func (l Loader) validateMap(v reflect.Value, ptr jsontext.Pointer) *placedError {
	values := map[string]reflect.Value{}
	for _, k := range v.MapKeys() {
		values[k.String()] = v.MapIndex(k)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := l.validateTree(values[name], ptr.AppendToken(name)); err != nil {
			return err
		}
	}
	return nil
}

func (l Loader) validateFields(v reflect.Value, ptr jsontext.Pointer) *placedError {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() && !f.Anonymous || fieldName(f) == "-" {
			continue
		}
		if err := l.validateTree(v.Field(i), fieldPlace(v.Type(), f, ptr)); err != nil {
			return err
		}
	}
	return nil
}

// fieldPlace returns where the field f of a t at ptr stands in the file. An
// embedded struct and a target's selector share their section's place.
func fieldPlace(t reflect.Type, f reflect.StructField, ptr jsontext.Pointer) jsontext.Pointer {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	switch {
	case name == "" && (f.Anonymous || f.Name == "Selector" && t == reflect.TypeFor[TargetSpec]()):
		return ptr
	case t == reflect.TypeFor[TargetSpec]():
		return ptr.AppendToken(strings.ToLower(f.Name))
	}
	return ptr.AppendToken(fieldName(f))
}

func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" {
		return f.Name
	}
	return name
}
