package experiment

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// fileError places err: its line, its path, and its words for a person.
func (d *document) fileError(name string, err error) *FileError {
	var line *lineError
	if errors.As(err, &line) {
		return &FileError{File: name, Line: line.line, Err: line.err}
	}
	ptr, plain := explain(err)
	e := &FileError{File: name, Line: d.line(ptr), Err: plain}
	var unknown *unknownFieldError
	if errors.As(plain, &unknown) {
		ptr = ptr.Parent()
	}
	e.Path = path(ptr)
	return e
}

// plain tells whether a key of the file can stand in a path as it is.
func plain(token string) bool {
	return token != "" && len(token) <= 64 && !strings.ContainsFunc(token, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !strings.ContainsRune("_./-", r)
	})
}

// path writes a JSON pointer as people do: spec.method[0].fault.
func path(ptr jsontext.Pointer) string {
	var b strings.Builder
	for token := range ptr.Tokens() {
		if _, err := strconv.Atoi(token); err == nil {
			b.WriteString("[" + token + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		if !plain(token) {
			token = quote(token)
		}
		b.WriteString(token)
	}
	return b.String()
}

// sectionError is an error inside a section that a catalogue decoded.
type sectionError struct {
	name string // the section's type, "" where it is not known
	err  error
	also []string // fields that the section has besides those of its type
}

func (e *sectionError) Error() string {
	if e.name == "" {
		return e.err.Error()
	}
	return e.name + ": " + e.err.Error()
}

func (e *sectionError) Unwrap() error { return e.err }

// explain returns where in its section the error is, and says it with the
// section's name.
func (e *sectionError) explain() (jsontext.Pointer, error) {
	ptr, plain := explain(e.err)
	var unknown *unknownFieldError
	if e.name != "" && errors.As(plain, &unknown) {
		unknown.list = cmp.Or(unknown.list, e.name) // of the innermost section
		if ptr.Parent() == "" {
			unknown.known = append(unknown.known, e.also...)
		}
	}
	return ptr, &sectionError{name: e.name, err: plain}
}

// unknownFieldError says that a section has no such field.
type unknownFieldError struct {
	field string
	known []string
	list  string // what to give simian list
}

func (e *unknownFieldError) Error() string {
	return "unknown field " + quote(e.field) + valid("fields", e.field, e.known, e.list)
}

// explain turns an error of the decoder into a place and plain words.
func explain(err error) (jsontext.Pointer, error) {
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		var placed *placedError
		if errors.As(err, &placed) {
			return placed.ptr, placed.err
		}
		return "", err
	}
	ptr := semantic.JSONPointer
	var inner *sectionError
	switch {
	case errors.As(semantic.Err, &inner):
		below, plain := inner.explain()
		return ptr + below, plain
	case errors.Is(semantic.Err, json.ErrUnknownName):
		return ptr, &unknownFieldError{field: ptr.LastToken(), known: fieldNames(semantic.GoType)}
	case semantic.Err != nil && reads(semantic.GoType, semantic.JSONKind):
		return ptr, semantic.Err
	}
	return ptr, fmt.Errorf("want %s, not %s", wanted(semantic.GoType), got(semantic))
}

// reads tells whether a t reads a JSON value of kind k itself, so that the
// error is in its own words.
func reads(t reflect.Type, k jsontext.Kind) bool {
	if t == nil || t.Kind() == reflect.Interface {
		return true
	}
	if t.Kind() != reflect.Pointer {
		t = reflect.PointerTo(t)
	}
	return t.Implements(reflect.TypeFor[json.Unmarshaler]()) ||
		t.Implements(reflect.TypeFor[json.UnmarshalerFrom]()) ||
		k == '"' && t.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}
