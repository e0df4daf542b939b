package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if job := os.Getenv("IMAGE_TEST_JOB"); job != "" {
		os.Exit(child(job))
	}
	os.Exit(m.Run())
}

// needRoot skips what changes owners.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("unpacking gives files to their owners, and needs root")
	}
}

// e is an entry of a test's archive. Content is h's size.
type e struct {
	h       tar.Header
	content string
}

var then = time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)

func file(name, content string) e {
	return e{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: then}, content}
}

func dir(name string) e {
	return e{h: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: then}}
}

func symlink(name, to string) e {
	return e{h: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777, ModTime: then}}
}

func hardlink(name, to string) e {
	return e{h: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to, ModTime: then}}
}

func node(kind byte, name string) e {
	return e{h: tar.Header{Typeflag: kind, Name: name, Mode: 0o666, Devmajor: 1, Devminor: 3, ModTime: then}}
}

// pack makes an archive.
func pack(t testing.TB, list ...e) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, x := range list {
		x.h.Size = int64(len(x.content))
		if x.h.Typeflag != tar.TypeReg {
			x.h.Size = 0
		}
		if err := w.WriteHeader(&x.h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, x.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// layerOf makes a layer of an uncompressed archive; it is gzipped when pulled.
func layerOf(t testing.TB, archive []byte) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// rawLayer makes a layer whose blob is as given, whatever its diff id.
func rawLayer(blob []byte, kind types.MediaType) v1.Layer { return static.NewLayer(blob, kind) }

// makeImage makes an image for linux/amd64.
func makeImage(t testing.TB, layers ...v1.Layer) v1.Image {
	t.Helper()
	return makeImageFor(t, v1.Platform{OS: "linux", Architecture: "amd64"}, layers...)
}

func makeImageFor(t testing.TB, p v1.Platform, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Variant = p.OS, p.Architecture, p.Variant
	c.Config.Cmd, c.Config.Env = []string{"/bin/hello"}, []string{"PATH=/bin"}
	c.Created = v1.Time{Time: then}
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}

// hello makes an image with one layer that says so.
func hello(t testing.TB, content string) v1.Image {
	return makeImage(t, layerOf(t, pack(t, dir("bin/"), file("bin/hello", content))))
}

func openCache(t testing.TB) *Cache {
	t.Helper()
	needRoot(t)
	c, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// alone makes sure that no store but the test's own is asked.
func alone(t *testing.T) {
	t.Helper()
	none := t.TempDir()
	t.Setenv("DOCKER_HOST", "unix://"+none+"/docker.sock")
	t.Setenv("CONTAINERD_ADDRESS", none+"/containerd.sock")
	t.Setenv("DOCKER_CONFIG", none)
	t.Setenv("HOME", none)
	t.Setenv("XDG_RUNTIME_DIR", none)
}

// tree describes all that is below a folder: a line for each file.
func tree(t testing.TB, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s%s\n", info.Mode(), name, detail(path, info))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func detail(path string, info fs.FileInfo) string {
	switch {
	case info.Mode().IsRegular():
		data, _ := os.ReadFile(path)
		return fmt.Sprintf(" %.40q", data)
	case info.Mode()&fs.ModeSymlink != 0:
		to, _ := os.Readlink(path)
		return " -> " + to
	case info.IsDir() && xattr(path, opaqueAttr) != "":
		return " opaque"
	}
	return ""
}

func xattr(path, attr string) string {
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(path, attr, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// leftovers fails the test if the cache holds anything but these.
func leftovers(t testing.TB, c *Cache, sub ...string) {
	t.Helper()
	for _, s := range sub {
		list, err := os.ReadDir(c.path(s))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			t.Errorf("%s/%s is left behind", s, e.Name())
		}
	}
}

func discard() *log.Logger { return log.New(io.Discard, "", 0) }

// listenAndLeave leaves a socket behind, as a killed daemon does.
func listenAndLeave(t *testing.T, path string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
}
