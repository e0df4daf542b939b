package native

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

var updateCompose = flag.Bool("update", false, "write the golden files anew")

// loadCase loads a file of testdata. Its first line may say how:
//
//	# load: files=other.yaml profiles=a,b name=shop A=1
func loadCase(t *testing.T, file string) (*Project, error) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	files, o := []string{file}, LoadOptions{Env: map[string]string{"COMPOSE_PROJECT_NAME": "", "COMPOSE_PROFILES": ""}}
	first, _, _ := strings.Cut(string(data), "\n")
	options, _ := strings.CutPrefix(first, "# load: ")
	if !strings.HasPrefix(first, "# load: ") {
		options = ""
	}
	for word := range strings.FieldsSeq(options) {
		switch name, value, _ := strings.Cut(word, "="); name {
		case "files":
			for f := range strings.SplitSeq(value, ",") {
				files = append(files, filepath.Join(filepath.Dir(file), f))
			}
		case "profiles":
			o.Profiles = strings.Split(value, ",")
		case "name":
			o.Name = value
		default:
			o.Env[name] = value
		}
	}
	return Load(context.Background(), files, o)
}

func composeCases(t *testing.T, pattern string) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/compose/" + pattern)
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	cases := map[string]string{}
	for _, f := range files {
		cases[strings.TrimSuffix(filepath.Base(f), ".yaml")] = f
	}
	return cases
}

// golden holds got against a file, or writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *updateCompose {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got)\n%s", file, d)
	}
}

// TestComposeValid loads files that use all that is taken.
func TestComposeValid(t *testing.T) {
	t.Parallel()
	for name, file := range composeCases(t, "valid-*.yaml") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := loadCase(t, file)
			if err != nil {
				t.Fatal(err)
			}
			dump, err := json.MarshalIndent(withoutZero(reflect.ValueOf(p)), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			text := strings.ReplaceAll(string(dump), p.Dir, "$DIR") + "\n"
			golden(t, strings.TrimSuffix(file, ".yaml")+".json", text)
		})
	}
}

// withoutZero makes v ready for a dump without what is not said in it.
func withoutZero(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		return withoutZero(v.Elem())
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = withoutZero(v.Index(i))
		}
		return list
	case reflect.Struct:
		if _, ok := v.Interface().(json.Marshaler); ok {
			break
		}
		if s, ok := v.Interface().(interface{ MarshalText() ([]byte, error) }); ok {
			return s
		}
		m := map[string]any{}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && !v.Field(i).IsZero() {
				m[f.Name] = withoutZero(v.Field(i))
			}
		}
		return m
	}
	if d, ok := v.Interface().(time.Duration); ok {
		return d.String()
	}
	return v.Interface()
}

// TestComposeInvalid loads files that must be refused. The text beside each is
// all that is said.
func TestComposeInvalid(t *testing.T) {
	t.Parallel()
	here, err := filepath.Abs("testdata/compose")
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range composeCases(t, "invalid-*.yaml") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := loadCase(t, file)
			if err == nil {
				t.Fatalf("was taken: %+v", p)
			}
			var placed *experiment.FileError
			if !errors.As(err, &placed) {
				t.Errorf("%v has no place", err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".err", strings.ReplaceAll(err.Error(), here, "$DIR")+"\n")
		})
	}
}
