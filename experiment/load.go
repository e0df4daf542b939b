package experiment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxFileSize is the largest experiment file that is read, in bytes.
const MaxFileSize = 1 << 20

// Loader reads experiment files. Its catalogues say which faults, targets and
// probes there are.
type Loader struct {
	Faults  Catalog[Fault]
	Targets Catalog[Selector]
	Probes  Catalog[Probe]
	Long    bool // allow an action to last longer than LongestFor
}

// FileError says what is wrong with a file, and where.
type FileError struct {
	File string
	Line int    // 0 where the whole file is to blame
	Path string // such as spec.method[0].fault
	Err  error
}

// Error gives "slow.yaml:14: spec.method[0].fault: latency: unknown field …".
func (e *FileError) Error() string {
	place := e.File
	if e.Line > 0 {
		place += fmt.Sprintf(":%d", e.Line)
	}
	if e.Path != "" {
		place += ": " + e.Path
	}
	return place + ": " + e.Err.Error()
}

// Unwrap implements the interface of errors.Is and errors.As.
func (e *FileError) Unwrap() error { return e.Err }

// LoadFile reads and checks the file at path. Set fills in its parameters.
func (l Loader) LoadFile(path string, set map[string]string) (*Experiment, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &FileError{File: path, Err: errors.Unwrap(err)}
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, &FileError{File: path, Err: errors.New("is a directory, not an experiment file")}
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if err != nil {
		return nil, &FileError{File: path, Err: err}
	}
	return l.Load(path, data, set)
}

// Load decodes and checks data, which name is the file name of in errors. An
// error is a *FileError. Nothing but data is read.
func (l Loader) Load(name string, data []byte, set map[string]string) (*Experiment, error) {
	if len(data) > MaxFileSize {
		return nil, &FileError{File: name, Err: fmt.Errorf("is larger than %d KiB: not an experiment file", MaxFileSize>>10)}
	}
	doc, err := parseYAML(data)
	if err != nil {
		return nil, doc.fileError(name, err)
	}
	if err := doc.substitute(set); err != nil {
		return nil, doc.fileError(name, err)
	}
	raw, err := doc.json()
	if err != nil {
		return nil, doc.fileError(name, err)
	}
	e, err := l.decode(raw)
	if err != nil {
		return nil, doc.fileError(name, err)
	}
	e.File = name
	return e, nil
}

// decode turns the file's JSON into an experiment, strictly.
func (l Loader) decode(raw []byte) (*Experiment, error) {
	if err := checkKind(raw); err != nil {
		return nil, err
	}
	e := &Experiment{}
	if err := json.Unmarshal(raw, e, json.RejectUnknownMembers(true), l.unmarshalers()); err != nil {
		return nil, err
	}
	for i := range e.Spec.Method {
		e.Spec.Method[i].Type = l.Faults.Name(e.Spec.Method[i].Fault)
	}
	if err := validateTree(reflect.ValueOf(e).Elem(), ""); err != nil {
		return nil, err
	}
	if err := l.checkLength(e); err != nil {
		return nil, err
	}
	e.setDefaults()
	return e, nil
}

func (l Loader) unmarshalers() json.Options {
	return json.WithUnmarshalers(json.JoinUnmarshalers(
		l.Faults.unmarshaler(), l.Probes.unmarshaler(), targetUnmarshaler(l.Targets)))
}

// checkKind looks at what a file says of itself before the rest of it, so
// that a file of another kind or a later version is not called misspelt.
func checkKind(raw []byte) error {
	var head struct {
		APIVersion jsontext.Value `json:"apiVersion"`
		Kind       jsontext.Value `json:"kind"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return &placedError{"", errors.New("want fields (apiVersion, kind, metadata, spec)")}
	}
	for _, f := range []struct {
		name, want string
		got        jsontext.Value
	}{{"apiVersion", APIVersion, head.APIVersion}, {"kind", Kind, head.Kind}} {
		var got string
		switch {
		case f.got == nil:
			return &placedError{"", fmt.Errorf("%s is missing (%s: %s)", f.name, f.name, f.want)}
		case json.Unmarshal(f.got, &got) != nil || got != f.want:
			return &placedError{jsontext.Pointer("/" + f.name), fmt.Errorf("%s is not known to this version of Simian (it knows %s)", f.got, f.want)}
		}
	}
	return nil
}

func (l Loader) checkLength(e *Experiment) error {
	for i, a := range e.Spec.Method {
		if a.For > LongestFor && !l.Long {
			return &placedError{jsontext.Pointer(fmt.Sprintf("/spec/method/%d/for", i)),
				fmt.Errorf("%s is longer than %s: say --long if it is meant", a.For, LongestFor)}
		}
	}
	return nil
}

// placedError is an error with the JSON pointer of what is wrong.
type placedError struct {
	ptr jsontext.Pointer
	err error
}

func (e *placedError) Error() string { return string(e.ptr) + ": " + e.err.Error() }

// validateTree asks every value below v that can validate itself, the outer
// ones last, and places the first error.
func validateTree(v reflect.Value, ptr jsontext.Pointer) error {
	if err := validateParts(v, ptr); err != nil {
		return err
	}
	if !v.IsValid() || !v.CanInterface() || v.Kind() == reflect.Pointer && v.IsNil() || v.Kind() == reflect.Interface {
		return nil
	}
	c, ok := v.Interface().(Validator)
	if !ok {
		return nil
	}
	err := c.Validate()
	if err == nil {
		return nil
	}
	var f *FieldError
	if errors.As(err, &f) {
		return &placedError{ptr + jsontext.Pointer("/"+f.Field), f.Err}
	}
	return &placedError{ptr, err}
}

func validateParts(v reflect.Value, ptr jsontext.Pointer) error {
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			if v.Kind() == reflect.Pointer && v.Type().Implements(reflect.TypeFor[Validator]()) && v.Elem().Kind() == reflect.Struct {
				return validateParts(v.Elem(), ptr)
			}
			return validateTree(v.Elem(), ptr)
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := validateTree(v.Index(i), ptr+jsontext.Pointer(fmt.Sprintf("/%d", i))); err != nil {
				return err
			}
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			if err := validateTree(v.MapIndex(k), ptr.AppendToken(k.String())); err != nil {
				return err
			}
		}
	case reflect.Struct:
		return validateFields(v, ptr)
	}
	return nil
}

func validateFields(v reflect.Value, ptr jsontext.Pointer) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := fieldName(f)
		if !f.IsExported() || name == "-" {
			continue
		}
		at := ptr
		if f.Tag.Get("json") != "" { // Selector and pick share their section's place
			at = ptr.AppendToken(name)
		} else if v.Type() == reflect.TypeFor[TargetSpec]() && f.Name != "Selector" {
			at = ptr.AppendToken(strings.ToLower(f.Name))
		}
		if err := validateTree(v.Field(i), at); err != nil {
			return err
		}
	}
	return nil
}

func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" {
		return f.Name
	}
	return name
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *Scalar) UnmarshalJSON(b []byte) error {
	switch jsontext.Value(b).Kind() {
	case '"':
		return json.Unmarshal(b, &s.Text)
	case '0', 't', 'f':
		s.Text = string(b)
		return nil
	}
	return errors.New("want a word, a number, true or false")
}

// MarshalJSON implements json.Marshaler.
func (s Scalar) MarshalJSON() ([]byte, error) { return json.Marshal(s.Text) }

func newReader(raw []byte) io.Reader { return bytes.NewReader(raw) }
