package experiment

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

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

// ErrorAt places an error that was found after loading: at is the JSON pointer
// of what is to blame.
func (e *Experiment) ErrorAt(at string, err error) *FileError {
	ptr := jsontext.Pointer(at)
	f := &FileError{File: e.File, Path: path(ptr), Err: err}
	if e.Line != nil {
		f.Line = e.Line(ptr)
	}
	return f
}

// LoadFile reads and checks the file at path, or standard input where path is
// "-". Set fills in its parameters. Nothing but a regular file is opened to be
// read, and no more than MaxFileSize of it.
func (l Loader) LoadFile(path string, set map[string]string) (*Experiment, error) {
	if path == "-" {
		return l.read("standard input", os.Stdin, set)
	}
	// A FIFO without a writer would otherwise hold up the open itself.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, &FileError{File: path, Err: errors.Unwrap(err)}
	}
	defer f.Close()
	if err := checkFile(f); err != nil {
		return nil, &FileError{File: path, Err: err}
	}
	return l.read(path, f, set)
}

func checkFile(f *os.File) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return errors.Unwrap(err)
	case info.IsDir():
		return errors.New("is a directory, not an experiment file")
	case !info.Mode().IsRegular():
		return errors.New("is not a regular file (to read standard input, say -)")
	case info.Size() > MaxFileSize:
		return errTooLarge
	}
	return nil
}

var errTooLarge = fmt.Errorf("is larger than %d KiB: not an experiment file", MaxFileSize>>10)

func (l Loader) read(name string, r io.Reader, set map[string]string) (*Experiment, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxFileSize+1))
	if err != nil {
		return nil, &FileError{File: name, Err: err}
	}
	return l.Load(name, data, set)
}

// Load decodes and checks data, which name is the file name of in errors. An
// error is a *FileError. Nothing but data is read.
func (l Loader) Load(name string, data []byte, set map[string]string) (*Experiment, error) {
	if len(data) > MaxFileSize {
		return nil, &FileError{File: name, Err: errTooLarge}
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
	e.File, e.Line = name, doc.line
	return e, nil
}

// decode turns the file's JSON into an experiment, strictly.
func (l Loader) decode(raw []byte) (*Experiment, error) {
	if err := checkKind(raw, Kind); err != nil {
		return nil, err
	}
	e := &Experiment{}
	if err := json.Unmarshal(raw, e, json.RejectUnknownMembers(true), l.unmarshalers()); err != nil {
		return nil, err
	}
	for i := range e.Spec.Method {
		e.Spec.Method[i].Type = l.Faults.Name(e.Spec.Method[i].Fault)
	}
	if err := l.validate(e); err != nil {
		return nil, err
	}
	if err := l.checkLength(e); err != nil {
		return nil, err
	}
	e.setDefaults()
	if err := e.Spec.checkSampled(); err != nil {
		return nil, err
	}
	return e, nil
}

func (l Loader) unmarshalers() json.Options {
	return json.WithUnmarshalers(json.JoinUnmarshalers(
		l.Faults.unmarshaler(), l.Probes.unmarshaler(), targetUnmarshaler(l.Targets)))
}

// checkKind looks at what a file says of itself before the rest of it, so
// that a file of another kind or a later version is not called misspelt.
func checkKind(raw []byte, kind string) error {
	var head map[string]jsontext.Value
	if err := json.Unmarshal(raw, &head); err != nil {
		return &placedError{"", errors.New("want fields (apiVersion, kind, metadata, spec)")}
	}
	for _, f := range []struct{ name, want string }{{"apiVersion", APIVersion}, {"kind", kind}} {
		value, ok := head[f.name]
		if !ok {
			return missing(f.name, fmt.Sprintf("%s: %s", f.name, f.want), keys(head))
		}
		var got string
		if json.Unmarshal(value, &got) != nil {
			return &placedError{jsontext.Pointer("/" + f.name), fmt.Errorf("want %s, not %s", f.want, kindName(value.Kind()))}
		}
		if got != f.want {
			return &placedError{jsontext.Pointer("/" + f.name), fmt.Errorf("%s is not known to this version of Simian (it knows %s)", quote(got), f.want)}
		}
	}
	return nil
}

// missing says that a field is not there, or which one was meant to be it.
func missing(name, example string, present []string) error {
	for _, p := range present {
		if edits(strings.ToLower(p), strings.ToLower(name)) <= 1 {
			ptr := jsontext.Pointer("").AppendToken(p)
			return &placedError{ptr, &unknownFieldError{field: p, known: []string{name}}}
		}
	}
	return &placedError{"", fmt.Errorf("%s is missing (%s)", name, example)}
}

func (l Loader) checkLength(e *Experiment) error {
	if l.Long {
		return nil
	}
	for i, a := range e.Spec.Method {
		field, d := "for", a.lasts()
		if a.For == 0 {
			field = "repeat/times"
		}
		if a.After > d {
			field, d = "after", a.After
		}
		if d > LongestFor {
			return &placedError{
				jsontext.Pointer(fmt.Sprintf("/spec/method/%d/%s", i, field)),
				fmt.Errorf("%s is longer than %s: say --long if it is meant", d, LongestFor),
			}
		}
	}
	return nil
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
	return errors.New("want text, a number, true or false")
}

// MarshalJSON implements json.Marshaler.
func (s Scalar) MarshalJSON() ([]byte, error) { return json.Marshal(s.Text) }
