package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/simianhq/simian/experiment"
)

func TestDir(t *testing.T) {
	if os.Geteuid() == 0 {
		if got := Dir(); got != "/var/lib/simian" {
			t.Errorf("got %s", got)
		}
		return
	}
	t.Setenv("HOME", "/home/x")
	for state, want := range map[string]string{"/s": "/s/simian", "": "/home/x/.local/state/simian", "rel": "/home/x/.local/state/simian"} {
		t.Setenv("XDG_STATE_HOME", state)
		if got := Dir(); got != want {
			t.Errorf("XDG_STATE_HOME=%q: got %s, want %s", state, got, want)
		}
	}
}

func TestNewMakesWhatIsMissing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a/b")
	s := storeAt(t, dir)
	for _, sub := range []string{"", "open", "done", "state"} {
		st, err := os.Stat(filepath.Join(dir, sub))
		must(t, err)
		if st.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%s: mode %v", sub, st.Mode())
		}
	}
	must(t, s.Create(t.Context(), testRun))
	st, err := os.Stat(filepath.Join(dir, "open/abc234.jsonl"))
	must(t, err)
	if st.Mode() != 0o600 {
		t.Errorf("journal: mode %v", st.Mode())
	}
}

func TestReaderMakesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "missing")
	for range 2 { // then without open/ and done/
		s, err := NewReader(dir, testCodec)
		must(t, err)
		open, err := s.Open(t.Context())
		must(t, err)
		done, err := s.Done(t.Context())
		must(t, err)
		if len(open)+len(done) != 0 || s.Held(testRun) {
			t.Errorf("found %v %v", open, done)
		}
		if _, err := s.Events(t.Context(), testRun); !errors.Is(err, ErrNoRun) {
			t.Errorf("got %v", err)
		}
		wantErr(t, s.TryLock(testRun), ErrNoRun)
		must(t, s.Close())
		must(t, os.MkdirAll(dir, 0o700))
		if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
			t.Errorf("made %v, %v", names, err)
		}
	}
}

func TestOpenListsRunsOnly(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, name := range []string{"zzzzzz.jsonl", "abc234.jsonl", "abc234.jsonl~", "ABC234.jsonl", ".x", "abc189.jsonl"} {
		must(t, os.WriteFile(filepath.Join(s.Dir(), "open", name), nil, 0o600))
	}
	for range 2 { // listing twice: no shared offset
		if runs, err := s.Open(t.Context()); err != nil || !slices.Equal(runs, []experiment.RunID{"abc234", "zzzzzz"}) {
			t.Errorf("got %v, %v", runs, err)
		}
	}
}

func needRoot(t *testing.T, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to " + what)
	}
}

func TestWhatOthersCouldHaveWrittenIsRefused(t *testing.T) {
	t.Parallel()
	euid := os.Geteuid()
	journal := "open/abc234.jsonl"
	tests := []struct {
		name, path string
		spoil      func(path string) error
		root       bool
		want       string // %s: the path
	}{
		{"state directory of another", "", chown, true, "refuse %[1]s: it belongs to uid 65534, not to uid 0, who would do what it says; say `chown -R 0 %[1]s` if you trust what is in it, or move it away"},
		{"open/ of another", "open", chown, true, "refuse %[1]s: it belongs to uid 65534"},
		{"journal of another", journal, chown, true, "refuse %[1]s: it belongs to uid 65534, not to uid 0, who would do what it says; say `chown 0 %[1]s`"},
		{"state directory for the group", "", chmod(0o770), false, fmt.Sprintf("refuse %%[1]s: its mode 0770 lets others than uid %d write it; say `chmod go-w %%[1]s` if you trust", euid)},
		{"done/ for all", "done", chmod(0o702), false, "refuse %[1]s: its mode 0702 lets others"},
		{"journal for all", journal, chmod(0o606), false, "refuse %[1]s: its mode 0606 lets others"},
		{"state directory by symlink", "", symlink, false, "refuse %[1]s: it is a symbolic link; put a directory in its place"},
		{"open/ by symlink", "open", symlink, false, "refuse %[1]s: it is a symbolic link; put a directory in its place"},
		{"journal by symlink", journal, symlink, false, "refuse %[1]s: it is a symbolic link; remove it"},
		{"journal that is a directory", journal, directory, false, "refuse %[1]s: it is not a regular file; move it away"},
		{"state directory that is a file", "", file, false, "refuse %[1]s: it is not a directory; move it away"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.root {
				needRoot(t, "give files to others")
			}
			dir := filepath.Join(t.TempDir(), "state")
			s, err := New(dir, testCodec, Now)
			must(t, err)
			must(t, s.Create(t.Context(), testRun))
			appendAll(t, s, begin())
			must(t, s.Close())
			path := filepath.Join(dir, test.path)
			must(t, test.spoil(path))
			want := fmt.Sprintf(test.want, path)
			if !strings.Contains(test.want, "%") {
				want = test.want
			}
			check := func(what string, err error) {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: got %v\nwant %s", what, err, want)
				}
			}
			check("take", takeAt(t, dir))
			check("read", readAt(t, dir))
		})
	}
}

// takeAt opens dir for writing and takes testRun's lock.
func takeAt(t *testing.T, dir string) error {
	s, err := New(dir, testCodec, Now)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.TryLock(testRun)
}

// readAt opens dir for reading and reads testRun.
func readAt(t *testing.T, dir string) error {
	s, err := NewReader(dir, testCodec)
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.Events(t.Context(), testRun)
	return err
}

func chown(path string) error { return os.Chown(path, 65534, 65534) }

func chmod(mode fs.FileMode) func(string) error {
	return func(path string) error { return os.Chmod(path, mode) }
}

func symlink(path string) error {
	return errors.Join(os.Rename(path, path+".away"), os.Symlink(path+".away", path))
}

func directory(path string) error {
	return errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o700))
}

func file(path string) error {
	return errors.Join(os.RemoveAll(path), os.WriteFile(path, nil, 0o600))
}
