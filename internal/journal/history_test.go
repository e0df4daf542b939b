package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func entry(n int) Entry {
	score := 50.5
	e := Entry{
		Run: fmt.Sprintf("abcd%c%c", 'a'+n/26, 'a'+n%26), Experiment: "checkout", File: "/x/slow.yaml", Verdict: "pass",
		Started: time.Date(2026, 3, 1, 12, 0, n, 123456789, time.UTC), Targets: n,
		Labels: map[string]string{"team": "shop"},
	}
	e.Ended = e.Started.Add(time.Minute)
	if n%2 == 1 {
		e.Experiment, e.Verdict, e.Score, e.Labels = "orders", "fail", &score, nil
	}
	return e
}

// each yields entries, and fails at the end if err is not nil.
func each(err error, entries ...Entry) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(Entry{}, err)
		}
	}
}

// history is one with entries 0 to 3.
func history(t testing.TB) (*History, string) {
	t.Helper()
	dir := t.TempDir()
	h := OpenHistory(dir)
	for _, n := range []int{2, 0, 3, 1} {
		must(t, h.Add(t.Context(), entry(n)))
	}
	return h, filepath.Join(dir, historyFile)
}

func listed(t testing.TB, h *History, q Query) []string {
	t.Helper()
	entries, err := h.List(t.Context(), q)
	must(t, err)
	var runs []string
	for _, e := range entries {
		runs = append(runs, e.Run)
	}
	return runs
}

func TestHistory(t *testing.T) {
	t.Parallel()
	h, path := history(t)
	again := entry(1)
	again.Verdict, again.Ended = "residue", time.Time{}
	must(t, h.Add(t.Context(), again))

	entries, err := h.List(t.Context(), Query{})
	must(t, err)
	if diff := cmp.Diff([]Entry{entry(3), entry(2), again, entry(0)}, entries); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, test := range map[string]struct {
		q    Query
		want []string
	}{
		"experiment": {Query{Experiment: "orders"}, []string{"abcdad", "abcdab"}},
		"verdict":    {Query{Verdict: "residue"}, []string{"abcdab"}},
		"since":      {Query{Since: entry(2).Started}, []string{"abcdad", "abcdac"}},
		"limit":      {Query{Limit: 1}, []string{"abcdad"}},
		"all":        {Query{Experiment: "checkout", Verdict: "pass", Since: entry(1).Started, Limit: 9}, []string{"abcdac"}},
		"a quote":    {Query{Experiment: "' OR 1"}, nil},
	} {
		if got := listed(t, h, test.q); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
	st, err := os.Stat(path)
	must(t, err)
	if st.Mode() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
}

func TestNoHistoryYet(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
		if got := listed(t, OpenHistory(dir), Query{}); got != nil {
			t.Errorf("got %v", got)
		}
		if _, err := os.Stat(filepath.Join(dir, historyFile)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("listing made it: %v", err)
		}
	}
}

func TestDamagedHistory(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(path string) error{
		"no database": func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("not SQLite ", 999)), 0o600) },
		"cut":         func(path string) error { return os.Truncate(path, 5000) },
		"overwritten": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte(strings.Repeat("x", 3*4096-100)), 100)
			return errors.Join(err, f.Close())
		},
		"other tables": func(path string) error {
			db, err := sql.Open("sqlite", path)
			if err != nil {
				return err
			}
			_, err = db.Exec("DROP TABLE runs")
			return errors.Join(err, db.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, path := history(t)
			must(t, spoil(path))
			want := "history " + path + " is damaged: simian reindex rebuilds it from the journals"
			for what, err := range map[string]error{"add": h.Add(t.Context(), entry(5)), "list": func() error { _, err := h.List(t.Context(), Query{}); return err }()} {
				if err == nil || !strings.HasPrefix(err.Error(), want) || !errors.Is(err, ErrHistory) {
					t.Errorf("%s: got %v\nwant %s", what, err, want)
				}
			}
			must(t, h.Reindex(t.Context(), each(nil, entry(0), entry(1))))
			must(t, h.Add(t.Context(), entry(5)))
			if got := listed(t, h, Query{}); !slices.Equal(got, []string{"abcdaf", "abcdab", "abcdaa"}) {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestNewerHistory(t *testing.T) {
	t.Parallel()
	h, path := history(t)
	db, err := sql.Open("sqlite", path)
	must(t, err)
	_, err = db.Exec("PRAGMA user_version = 2")
	must(t, errors.Join(err, db.Close()))
	if err := h.Add(t.Context(), entry(5)); err == nil || !strings.Contains(err.Error(), "its version 2 is not known") {
		t.Errorf("got %v", err)
	}
}

func TestHistoryOfOthers(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(string) error{"writable": chmod(0o620), "symlink": symlink, "of another": chown} {
		if name == "of another" && os.Geteuid() != 0 {
			continue
		}
		h, path := history(t)
		must(t, spoil(path))
		var trust *TrustError
		if err := h.Add(t.Context(), entry(5)); !errors.As(err, &trust) {
			t.Errorf("%s: add: %v", name, err)
		}
		if _, err := h.List(t.Context(), Query{}); !errors.As(err, &trust) {
			t.Errorf("%s: list: %v", name, err)
		}
		must(t, h.Reindex(t.Context(), each(nil, entry(1)))) // replaces it
		if got := listed(t, h, Query{}); !slices.Equal(got, []string{"abcdab"}) {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestReindex(t *testing.T) {
	t.Parallel()
	h, path := history(t)
	late := entry(9)
	late.Started, late.Ended = time.Now(), time.Now().Add(time.Hour)
	slow := func(yield func(Entry, error) bool) {
		if !yield(entry(7), nil) {
			return
		}
		// Another run ends meanwhile, and another reindex begins.
		if err := OpenHistory(filepath.Dir(path)).Add(t.Context(), late); err != nil {
			t.Error(err)
		}
		if err := h.Reindex(t.Context(), each(nil)); err == nil || !strings.Contains(err.Error(), "another reindex is at it") {
			t.Errorf("a second reindex: %v", err)
		}
		yield(entry(8), nil)
	}
	must(t, h.Reindex(t.Context(), slow))
	want := []string{late.Run, "abcdai", "abcdah"}
	if got := listed(t, h, Query{}); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	broken := errors.New("broken")
	wantErr(t, h.Reindex(t.Context(), each(broken, entry(1))), broken)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, h.Reindex(canceled, each(nil, entry(1))), context.Canceled)
	if got := listed(t, h, Query{}); !slices.Equal(got, want) {
		t.Errorf("a reindex that failed changed it: %v", got)
	}
	names, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(names) != 1 {
		t.Errorf("left: %v", names)
	}
}

func TestManyAddAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			if err := OpenHistory(dir).Add(t.Context(), entry(i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := listed(t, OpenHistory(dir), Query{}); len(got) != 30 {
		t.Errorf("%d entries", len(got))
	}
}

func BenchmarkHistoryAdd(b *testing.B) {
	h, _ := history(b)
	for b.Loop() {
		must(b, h.Add(b.Context(), entry(1)))
	}
}
