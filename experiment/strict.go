package experiment

import (
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ReadFile decodes a file of another kind than Experiment into v as strictly as
// Load does, and asks all in it to validate themselves. It returns the line of
// a place. An error is a *FileError.
func ReadFile(name string, data []byte, kind string, v any) (line func(at jsontext.Pointer) int, err error) {
	if len(data) > MaxFileSize {
		return nil, &FileError{File: name, Err: errTooLarge}
	}
	doc, err := parseYAML(data)
	if err != nil {
		return nil, doc.fileError(name, err)
	}
	raw, err := doc.json()
	if err == nil {
		err = checkKind(raw, kind)
	}
	if err == nil {
		err = json.Unmarshal(raw, v, json.RejectUnknownMembers(true))
	}
	if err != nil {
		return nil, doc.fileError(name, err)
	}
	if placed := (Loader{}).validateTree(reflect.ValueOf(v), ""); placed != nil {
		return nil, doc.fileError(name, placed)
	}
	return doc.line, nil
}
