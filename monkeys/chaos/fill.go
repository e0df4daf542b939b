package chaos

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
)

// Fill takes the space, or the inodes, of a file system that a target writes
// to, and never so much that nothing is left for the host.
type Fill struct {
	Path    string             `json:"path,omitempty" jsonschema:"a folder of the target on the file system to fill (/)"`
	Bytes   experiment.Size    `json:"bytes,omitzero" jsonschema:"take so much, such as 10GiB"`
	Percent experiment.Percent `json:"percent,omitzero" jsonschema:"fill it until so much of it is in use, as df shows it"`
	Inodes  Inodes             `json:"inodes,omitzero" jsonschema:"take so many inodes, such as 1000, or until so many are in use, such as 95%"`
	Floor   *experiment.Size   `json:"floor,omitempty" jsonschema:"stays free (1 % of it and at least 64MiB where it is the host's too, else nothing)"`

	host *op.Host
}

// Inodes are a number of them, or the share to be in use.
type Inodes struct {
	Count   int64
	Percent float64
}

// TypeName implements experiment.Typed.
func (Inodes) TypeName() string { return "number or percent" }

// MarshalJSON implements json.Marshaler.
func (n Inodes) MarshalJSON() ([]byte, error) {
	if n.Percent > 0 {
		return jsontext.AppendQuote(nil, strconv.FormatFloat(n.Percent, 'f', -1, 64)+"%")
	}
	return strconv.AppendInt(nil, n.Count, 10), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Inodes) UnmarshalJSON(b []byte) error {
	wrong := errors.New("want a number of inodes such as 1000, or a percentage such as 95%")
	switch jsontext.Value(b).Kind() {
	case '0':
		count, err := strconv.ParseInt(string(b), 10, 64)
		if err != nil || count < 1 {
			return wrong
		}
		*n = Inodes{Count: count}
		return nil
	case '"':
		var text string
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
		number, ok := strings.CutSuffix(text, "%")
		share, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if !ok || err != nil || !(share > 0 && share <= 100) {
			return wrong
		}
		*n = Inodes{Percent: share}
		return nil
	}
	return wrong
}

// Validate implements experiment.Validator.
func (f *Fill) Validate() error {
	asked := 0
	for _, given := range []bool{f.Bytes > 0, f.Percent > 0, f.Inodes != Inodes{}} {
		if given {
			asked++
		}
	}
	switch {
	case asked == 0:
		return errors.New("how much is missing: bytes, percent or inodes")
	case asked > 1:
		return errors.New("give one of bytes, percent and inodes")
	case f.Floor != nil && f.Inodes != Inodes{}:
		return experiment.Fieldf("floor", "it is of bytes, and inodes are taken: 1 %% of them stay free where the file system is the host's too")
	}
	return insidePath("path", f.Path)
}

// insidePath refuses what is no path from the root of a target.
func insidePath(field, name string) error {
	switch {
	case name == "":
		return nil
	case !path.IsAbs(name):
		return experiment.Fieldf(field, "%q is not absolute: give the path as the target sees it, such as /data", name)
	case strings.ContainsRune(name, 0):
		return experiment.Fieldf(field, "there is a zero byte in it")
	}
	return nil
}

// Plan implements experiment.Fault.
func (f *Fill) Plan(_ context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	if len(t.PIDs) == 0 {
		return nil, fmt.Errorf("it has no process here: %w", experiment.ErrUnsupported)
	}
	name := f.Path
	if name == "" {
		name = "/"
	}
	var floor *int64
	if f.Floor != nil {
		floor = (*int64)(f.Floor)
	}
	do, err := op.PlanFill(f.host, op.Fill{
		Run: run, Process: t.PIDs[0], Path: path.Clean(name), Target: t.Name,
		Amount: op.Amount{
			Bytes: int64(f.Bytes), Percent: float64(f.Percent),
			Inodes: f.Inodes.Count, InodesPercent: f.Inodes.Percent,
		},
	}, floor)
	if err != nil {
		return nil, err
	}
	return []experiment.Step{{Do: do, Undo: do.Gone()}}, nil
}
