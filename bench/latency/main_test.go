package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// The lab starts this program again, as its target and as Toxiproxy.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "-hold" || os.Args[1] == "-toxiproxy") {
		if err := run(context.Background(), os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ args, want string }{
		"no such part": {"-only delay,speed", "-only speed: parts are delay, loss, jitter, tcp, udp, filter, start"},
		"a word":       {"fast", "want -rounds above 0, and no other arguments"},
		"no results":   {"-report /nonexistent/r.json", "open /nonexistent/r.json: no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := run(context.Background(), strings.Fields(c.args))
			if err == nil || err.Error() != c.want {
				t.Errorf("%v", err)
			}
		})
	}
}

// golden compares with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Error(d)
	}
}
