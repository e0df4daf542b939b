package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSimianReadsNoHostileFiles has files in the image that the launcher reads
// to find the user: it must neither wait for ever, nor read without end, nor
// leave the image.
func TestSimianReadsNoHostileFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can launch containers")
	}
	w := newWorld(t)
	img := image(t)
	s := newSimian(t, img)
	for name, make := range map[string]func(path string) error{
		"a FIFO":              func(path string) error { return unix.Mkfifo(path, 0o644) },
		"a folder":            func(path string) error { return os.Mkdir(path, 0o755) },
		"a link to /dev/zero": func(path string) error { return os.Symlink("/dev/zero", path) },
		"a link to itself":    func(path string) error { return os.Symlink("passwd", path) },
		"a link to a process": func(path string) error { return os.Symlink("/proc/self/mem", path) },
		"a link to the host":  func(path string) error { return os.Symlink(strings.Repeat("../", 20)+w.canary, path) },
		"a disk":              func(path string) error { return unix.Mknod(path, unix.S_IFBLK|0o644, disk()) },
		"endless":             func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("x"), 100*mib), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			err := errors.Join(
				os.Link(filepath.Join(img, "hostile"), filepath.Join(root, "hostile")),
				os.Mkdir(filepath.Join(root, "etc"), 0o755),
				make(filepath.Join(root, "etc/passwd")),
			)
			if err != nil {
				t.Fatal(err)
			}
			spec := s.spec(t, container{args: []string{"/hostile", "cwd"}, root: root})
			spec.User = "daemon"
			began := time.Now()
			_, err = s.launch(t, spec, false)
			if took := time.Since(began); err == nil || took > 5*time.Second {
				t.Errorf("%v after %v, want an error at once", err, took)
			}
			t.Log(err)
			w.unharmed(t)
		})
	}
}
