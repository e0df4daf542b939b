package experiment_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/simianhq/simian/experiment"
)

// TestInvalid loads every testdata/invalid-*.yaml, and compares the error with
// the text beside it. A first line "# --set NAME=VALUE" sets a parameter.
func TestInvalid(t *testing.T) {
	t.Parallel()
	for _, name := range names(t, "invalid-*.yaml") {
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			_, err = loader().Load(name, data, setOf(data))
			var e *experiment.FileError
			if !errors.As(err, &e) || e.File != name {
				t.Fatalf("it gave %v (%T), want a FileError", err, err)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("a secret is in the error: %v", err)
			}
			golden(t, filepath.Join("testdata", strings.TrimSuffix(name, ".yaml")+".txt"), []byte(err.Error()+"\n"))
		})
	}
}

var setLine = regexp.MustCompile(`(?m)^# --set (\w+)=(.*)$`)

func setOf(data []byte) map[string]string {
	set := map[string]string{}
	for _, m := range setLine.FindAllSubmatch(data, -1) {
		set[string(m[1])] = string(m[2])
	}
	return set
}
