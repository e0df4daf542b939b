package experiment_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

// FuzzLoad loads anything: it never panics nor takes long, each error is a
// FileError, and what is loaded survives a journal and keeps to the schema.
func FuzzLoad(f *testing.F) {
	for _, name := range append(names(f, "valid-*.yaml"), names(f, "invalid-*.yaml")...) {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	_, schema := schema(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		begun := time.Now()
		e, err := loader().Load("fuzz.yaml", data, nil)
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		var file *experiment.FileError
		if err != nil {
			if !errors.As(err, &file) {
				t.Errorf("%T is no FileError: %v", err, err)
			}
			return
		}
		checkLoaded(t, e)
		raw, err := experiment.ToJSON(data)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(tree(t, raw)); err != nil {
			t.Errorf("it was loaded, but the schema refuses it: %v", err)
		}
	})
}

func checkLoaded(t *testing.T, e *experiment.Experiment) {
	t.Helper()
	begin := experiment.Event{Kind: experiment.EventBegin, Header: &experiment.Header{Experiment: e.Summarise()}}
	line, err := codec().Marshal(&begin)
	if err != nil {
		t.Fatalf("its summary cannot be written: %v", err)
	}
	var again experiment.Event
	if err := codec().Decoder()(line, &again); err != nil {
		t.Fatalf("its summary cannot be read: %v", err)
	}
	second, err := codec().Marshal(&again)
	if err != nil {
		t.Fatalf("its summary cannot be written again: %v", err)
	}
	if diff := cmp.Diff(tree(t, line), tree(t, second)); diff != "" {
		t.Errorf("its summary has changed: %s", diff)
	}
}

func tree(t *testing.T, data []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func FuzzDuration(f *testing.F) {
	for _, s := range []string{"250ms", "1m30s", "0", "-1s", "+.5h", "1.s", "8784h", "9999999h", "5", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var d, again experiment.Duration
		if d.UnmarshalText([]byte(s)) != nil {
			return
		}
		if d < 0 {
			t.Fatalf("%q became %v", s, d)
		}
		if err := again.UnmarshalText([]byte(d.String())); err != nil || again != d {
			t.Errorf("%q became %v, then %v (%v)", s, d, again, err)
		}
	})
}

func FuzzRate(f *testing.F) {
	for _, s := range []string{"50/s", "3000/m", "1e-3/h", "0/s", "1e999/s", "0.1/h", "1e-320/h", "/s", "5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var r, again experiment.Rate
		if r.UnmarshalText([]byte(s)) != nil {
			return
		}
		if !(r > 0 && r <= 1e9) {
			t.Fatalf("%q became %v", s, r)
		}
		if err := again.UnmarshalText([]byte(r.String())); err != nil || again != r {
			t.Errorf("%q became %v, then %v (%v)", s, r, again, err)
		}
	})
}

func FuzzBitrate(f *testing.F) {
	for _, s := range []string{"800kbit", "10mbit", "1gbit", "1.5mbit", "1bit", "1.5bit", "0.4bit", "0.0001gbit", "1000gbit", "1000.1gbit", "999999999999bit", "1e3bit", "10 mbit", "bit", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var r, again experiment.Bitrate
		if r.UnmarshalText([]byte(s)) != nil {
			return
		}
		if !(r >= 1 && r <= 1e12) {
			t.Fatalf("%q became %v", s, float64(r))
		}
		if err := again.UnmarshalText([]byte(r.String())); err != nil || again != r {
			t.Errorf("%q became %v, then %v (%v)", s, r, again, err)
		}
	})
}

func FuzzSize(f *testing.F) {
	for _, s := range []string{"512B", "64KiB", "8MiB", "1GiB", "1.5MiB", "0B", "0.3B", "1.1KiB", "1048576GiB", "1048576.1GiB", "1125899906842623B", "64", "64KB", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var n, again experiment.Size
		if n.UnmarshalText([]byte(s)) != nil {
			return
		}
		if n < 0 || n > 1<<50 {
			t.Fatalf("%q became %d", s, int64(n))
		}
		if err := again.UnmarshalText([]byte(n.String())); err != nil || again != n {
			t.Errorf("%q became %v, then %v (%v)", s, n, again, err)
		}
	})
}

func FuzzBound(f *testing.F) {
	for _, s := range []string{`0.99`, `"100ms"`, `-1`, `1e308`, `"2562047h47m16.854775807s"`, `"7ns"`, `"100000000.123456789s"`, `""`, `[]`, ``} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var b, again experiment.Bound
		if !json.Valid([]byte(s)) || b.UnmarshalJSON([]byte(s)) != nil {
			return
		}
		out, err := b.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalJSON(out); err != nil || again != b {
			t.Errorf("%s became %v, then %s, then %v (%v)", s, b, out, again, err)
		}
	})
}
