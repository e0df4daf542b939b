package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The golden file is what `cpio -itv` was seen to list as it should; that the
// kernel reads it too is what each boot shows.
func TestArchive(t *testing.T) {
	t.Parallel()
	source := t.TempDir()
	for name, mode := range map[string]os.FileMode{"run": 0o755, "data": 0o640} {
		must(t, os.WriteFile(filepath.Join(source, name), []byte(name+"\n"), mode))
	}
	must(t, os.Mkdir(filepath.Join(source, "below"), 0o755))
	must(t, os.Symlink("../data", filepath.Join(source, "below/link")))
	var b bytes.Buffer
	a := newArchive(&b)
	a.file("init", 0o755, []byte("#!/bin/sh\n"))
	a.folder("usr/bin")
	a.folder("usr/lib/")
	a.link("bin", "usr/bin")
	a.file("/etc/empty", 0o600, nil)
	a.copy("simian/testdata", source)
	must(t, a.close())
	if b.Len()%4 != 0 || int64(b.Len()) != a.size {
		t.Errorf("%d bytes written, %d counted", b.Len(), a.size)
	}
	golden(t, "archive", strings.ReplaceAll(b.String(), "\x00", "·"))
}

func TestArchiveErrors(t *testing.T) {
	t.Parallel()
	a := newArchive(&bytes.Buffer{})
	a.copy("x", "/nonexistent/x")
	a.file("y", 0o644, nil)
	if err := a.close(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file that is not there: %v", err)
	}
	full := newArchive(failing{})
	full.file("y", 0o644, nil)
	if err := full.close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a disk that is full: %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrClosed }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
