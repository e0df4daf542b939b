package filter

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// folder makes a root with an etc in it.
func folder(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "etc"), 0o755))
	return root
}

func write(t testing.TB, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

// TestReadBelow gives files that a hostile target may put in the place of
// resolv.conf.
func TestReadBelow(t *testing.T) {
	t.Parallel()
	secret := t.TempDir()
	write(t, secret, "shadow", "secret")
	for name, c := range map[string]struct {
		make func(root, path string) error
		want string // the text, or what the error says
	}{
		"a file":                   {func(_, path string) error { return os.WriteFile(path, []byte("text"), 0o600) }, "text"},
		"nothing":                  {func(_, _ string) error { return nil }, ""},
		"a relative link":          {func(_, path string) error { return os.Symlink("../run/conf", path) }, "inside"},
		"an absolute link":         {func(_, path string) error { return os.Symlink("/run/conf", path) }, "inside"},
		"a link that leads up":     {func(_, path string) error { return os.Symlink(strings.Repeat("../", 30)+"run/conf", path) }, "inside"},
		"a link to the host":       {func(_, path string) error { return os.Symlink(filepath.Join(secret, "shadow"), path) }, ""},
		"a link up to the host":    {func(_, path string) error { return os.Symlink(strings.Repeat("../", 30)+secret+"/shadow", path) }, ""},
		"/etc/shadow":              {func(_, path string) error { return os.Symlink("/etc/shadow", path) }, ""},
		"a folder that leads away": {func(root, _ string) error { return relink(root, "etc", secret) }, ""},
		"a loop":                   {func(_, path string) error { return os.Symlink("resolv.conf", path) }, "too many levels of symbolic links"},
		"a FIFO":                   {func(_, path string) error { return unix.Mkfifo(path, 0o600) }, "it is not a regular file"},
		"a folder":                 {func(_, path string) error { return os.Mkdir(path, 0o700) }, "it is not a regular file"},
		"a socket":                 {func(_, path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) }, "it is not a regular file"},
		"too much":                 {func(_, path string) error { return os.WriteFile(path, make([]byte, maxFile+1), 0o600) }, "it is larger than 1024 KiB"},
		"endless":                  {func(_, path string) error { return sparse(path) }, "it is larger than 1024 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := folder(t)
			write(t, root, "run/conf", "inside")
			must(t, c.make(root, filepath.Join(root, "etc", "resolv.conf")))
			text, err := readBelow(root, "etc/resolv.conf")
			switch {
			case err != nil && (c.want == "" || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %q", err, c.want)
			case err == nil && string(text) != c.want:
				t.Errorf("%q, want %q", text, c.want)
			}
		})
	}
}

// TestReadBelowMagic reads through the links of a proc(5) that is in the
// target, which lead anywhere.
func TestReadBelowMagic(t *testing.T) {
	t.Parallel()
	if text, err := readBelow("/proc", "self/root/etc/hostname"); err == nil {
		t.Errorf("it read %q", text)
	}
}

func relink(root, name, to string) error {
	if err := os.Remove(filepath.Join(root, name)); err != nil {
		return err
	}
	return os.Symlink(to, filepath.Join(root, name))
}

func sparse(path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return os.Truncate(path, 1<<40)
}
