package match

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"k8s.io/apimachinery/pkg/labels"
)

// Labels are what labels must be: in a file a mapping of names to values, or a
// text in the syntax of Kubernetes' label selectors.
type Labels struct {
	text     string            // as it was given, "" where it was a mapping
	pairs    map[string]string // as it was given
	selector labels.Selector   // nil matches everything; of text only
}

// ParseLabels reads a label selector of Kubernetes: "app=web,tier in (a, b)".
func ParseLabels(text string) (Labels, error) {
	if strings.TrimSpace(text) == "" {
		return Labels{}, errors.New("an empty selector: leave it out to mean all")
	}
	s, err := labels.Parse(text)
	if err != nil {
		return Labels{}, fmt.Errorf("%q is not a label selector (such as app=web,tier in (a, b),!canary): %w", text, err)
	}
	return Labels{text: text, selector: s}, nil
}

// LabelPairs wants each of pairs as it is. Container labels may hold what
// those of Kubernetes may not.
func LabelPairs(pairs map[string]string) Labels { return Labels{pairs: pairs} }

// Empty tells whether l matches everything.
func (l Labels) Empty() bool { return l.selector == nil && len(l.pairs) == 0 }

// IsZero is Empty, for json's omitzero.
func (l Labels) IsZero() bool { return l.Empty() }

// Matches tells whether labels are as l wants them.
func (l Labels) Matches(have map[string]string) bool {
	for name, value := range l.pairs {
		if got, ok := have[name]; !ok || got != value {
			return false
		}
	}
	return l.selector == nil || l.selector.Matches(labels.Set(have))
}

// String gives l in Kubernetes' syntax.
func (l Labels) String() string {
	if l.selector != nil {
		return l.selector.String()
	}
	return labels.Set(l.pairs).String() // sorted
}

// TypeName implements experiment.Typed.
func (*Labels) TypeName() string { return "map of text, or label selector" }

// JSONSchema implements experiment.Shaped.
func (*Labels) JSONSchema() string {
	return `{"anyOf": [{"type": "string", "minLength": 1}, {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}}]}`
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *Labels) UnmarshalJSON(b []byte) error {
	switch jsontext.Value(b).Kind() {
	case '"':
		var text string
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
		var err error
		*l, err = ParseLabels(text)
		return err
	case '{':
		var err error
		*l, err = readPairs(b)
		return err
	}
	return errors.New("want a mapping such as {app: web}, or a selector such as app=web,!canary")
}

func readPairs(b []byte) (Labels, error) {
	values, pairs := map[string]jsontext.Value{}, map[string]string{}
	if err := json.Unmarshal(b, &values); err != nil {
		return Labels{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		var text string
		if json.Unmarshal(values[name], &text) != nil {
			return Labels{}, fmt.Errorf(`the value of label %q is no text: put it in quotes, as in {version: "2"}`, name)
		}
		pairs[name] = text
	}
	if len(pairs) == 0 {
		return Labels{}, errors.New("an empty mapping: leave it out to mean all")
	}
	return LabelPairs(pairs), nil
}

// MarshalJSON implements json.Marshaler: as it was given.
func (l Labels) MarshalJSON() ([]byte, error) {
	if l.selector != nil {
		return json.Marshal(l.text)
	}
	return json.Marshal(l.pairs, json.Deterministic(true))
}
