package report

import (
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// JSON writes r as one JSON document, indented, its fields always in the same
// order.
func JSON(w io.Writer, r *Result) error {
	b, err := json.Marshal(r, json.Deterministic(true), jsontext.AllowInvalidUTF8(true), jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("write result of run %s as JSON: %w", r.Run, err)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
