package experiment_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/simianhq/simian/experiment"
)

func schema(t testing.TB) ([]byte, *jsonschema.Resolved) {
	t.Helper()
	raw, err := loader().Schema()
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw, resolved
}

// instance returns the file as a schema sees it, and whether it can be read
// at all.
func instance(t testing.TB, name string) (any, bool) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := experiment.ToJSON(data)
	if err != nil {
		return nil, false
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%s is not JSON: %v\n%s", name, err, raw)
	}
	return v, true
}

func TestSchema(t *testing.T) {
	t.Parallel()
	raw, _ := schema(t)
	golden(t, "testdata/schema.golden", raw)
	for range 5 {
		if again, _ := schema(t); string(again) != string(raw) {
			t.Fatal("it is another one each time")
		}
	}
}

func TestSchemaAcceptsWhatLoadAccepts(t *testing.T) {
	t.Parallel()
	_, s := schema(t)
	for _, name := range names(t, "valid-*.yaml") {
		v, ok := instance(t, name)
		if !ok {
			t.Errorf("%s cannot be read", name)
			continue
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// beyondSchema lists the invalid files whose fault a schema cannot see: it
// spans several fields, hides behind a parameter, or is a section's own
// affair (what its Validate says).
var beyondSchema = strings.Fields(`
	action-name-control after-too-long bitrate-huge bitrate-zero check-blank-name check-both check-bound-is-duration
	check-crossed check-measure-missing check-measure-of-probe check-name-control check-name-lines
	check-no-traffic-at-all check-traffic-unknown check-window-of-probe count-with-mode-one
	count-without-mode duplicate-action duplicate-check duplicate-traffic every-too-often
	fault-deep-refused first-action-parallel group-by-all for-longer-than-a-year for-missing
	for-missing-repeated for-too-long for-zero huge-number label-control mode-fixed-without-count
	mode-percent-without-percent never-sampled never-sampled-every never-sampled-instant
	never-sampled-parallel parameter-empty parameter-near parameter-undeclared
	parameter-without-value parameter-wrong-type percent-with-mode-all probe-url-ftp
	probe-url-malformed probe-url-no-host probe-url-relative probe-without-url rate-huge rate-zero
	set-no-parameters set-undeclared set-wrong-type signal-refused size-huge target-refused
	target-says-nothing to-count-without-mode to-parameter-wrong-type to-refused to-says-nothing traffic-header traffic-method unknown-signal
	min-healthy-0-percent min-healthy-100-percent min-healthy-huge on-restart-of-instant pulse-of-instant pulse-off-0
	pulse-off-short pulse-once pulse-short pulse-times-unreached pulse-without-for repeat-both repeat-empty
	repeat-every-once repeat-every-quick repeat-every-quick-held repeat-every-twice repeat-times-a-year
	repeat-times-alone repeat-times-million repeat-times-too-long repeat-times-unreached repeat-without-for
`)

func TestSchemaRefusesWhatLoadRefuses(t *testing.T) {
	t.Parallel()
	_, s := schema(t)
	beyond := map[string]bool{}
	for _, name := range beyondSchema {
		beyond[name] = true
	}
	for _, name := range names(t, "invalid-*.yaml") {
		v, ok := instance(t, name)
		if !ok {
			continue // not YAML, or no tree of values
		}
		short := strings.TrimSuffix(strings.TrimPrefix(name, "invalid-"), ".yaml")
		switch err := s.Validate(v); {
		case err == nil && !beyond[short]:
			t.Errorf("%s is accepted", short)
		case err != nil && beyond[short]:
			t.Errorf("%s is refused (%v): take it off the list", short, err)
		}
	}
}
