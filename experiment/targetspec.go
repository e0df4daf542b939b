package experiment

import (
	"errors"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// pick is the part of a target section that is the same for every selector.
type pick struct {
	Mode    Mode    `json:"mode,omitzero" jsonschema:"how many of those found: one (default), all, fixed, fixed-percent, random-max-percent"`
	Count   int     `json:"count,omitzero" jsonschema:"for mode fixed"`
	Percent Percent `json:"percent,omitzero" jsonschema:"for the modes with percent in their name"`
	GroupBy GroupBy `json:"groupBy,omitempty" jsonschema:"the mode is of each group: workload, as in one of each service, or label: and a label's name"`
}

// targetUnmarshaler splits a target section into what every selector has and
// what its own type has.
func targetUnmarshaler(c Catalog[Selector]) *json.Unmarshalers {
	common := fieldNames(reflect.TypeFor[pick]())
	return json.UnmarshalFromFunc(func(dec *jsontext.Decoder, t *TargetSpec) error {
		raw, err := dec.ReadValue()
		if err != nil {
			return err
		}
		*t = TargetSpec{}
		if raw.Kind() == 'n' { // as targetMarshaler writes no selector; a file holds no null
			return nil
		}
		members, err := splitMembers(raw)
		if err != nil {
			return &sectionError{err: err}
		}
		if t.Selector, t.Type, err = c.decode(members.without(common...).value(), dec.Options()); err != nil {
			var s *sectionError
			if errors.As(err, &s) {
				s.also = common
			}
			return err
		}
		var p pick
		if err := json.Unmarshal(members.only(common...).value(), &p); err != nil {
			return &sectionError{name: t.Type, err: err}
		}
		t.Mode, t.Count, t.Percent, t.GroupBy = p.Mode, p.Count, p.Percent, p.GroupBy
		return nil
	})
}

func targetMarshaler(c Catalog[Selector]) *json.Marshalers {
	return json.MarshalToFunc(func(enc *jsontext.Encoder, t TargetSpec) error {
		if t.Selector == nil {
			return enc.WriteToken(jsontext.Null)
		}
		raw, err := c.encode(t.Selector)
		if err != nil {
			return err
		}
		common, err := json.Marshal(pick{t.Mode, t.Count, t.Percent, t.GroupBy})
		if err != nil {
			return err
		}
		own, err := splitMembers(raw)
		if err != nil {
			return err
		}
		more, err := splitMembers(common)
		if err != nil {
			return err
		}
		return enc.WriteValue(append(own, more...).value())
	})
}
