package image

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ocilayout "github.com/google/go-containerregistry/pkg/v1/layout"
)

// tarOf packs a folder's files.
func tarOf(t *testing.T, dir string) []byte {
	t.Helper()
	var list []e
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	blobs, _ := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	for _, path := range append(names, blobs...) {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // a folder
		}
		name, _ := filepath.Rel(dir, path)
		list = append(list, file(name, string(data)))
	}
	return pack(t, list...)
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// makeArchives makes one file or folder of each kind.
func makeArchives(t *testing.T, dir string) {
	t.Helper()
	p, err := ocilayout.Write(dir+"/one", empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(hello(t, "one")); err != nil {
		t.Fatal(err)
	}
	two, err := ocilayout.Write(dir+"/two", empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"a", "b"} {
		if err := two.AppendImage(hello(t, "two "+tag), ocilayout.WithAnnotations(map[string]string{tagNote: tag})); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir+"/one.oci", tarOf(t, dir+"/one"))
	write(t, dir+"/two.oci", tarOf(t, dir+"/two"))
	saveDocker(t, dir+"/one.tar", map[string]v1.Image{"shop:1": hello(t, "one")})
	saveDocker(t, dir+"/two.tar", map[string]v1.Image{"shop:1": hello(t, "two 1"), "ghcr.io/x/shop:2": hello(t, "two 2")})
	one, err := os.ReadFile(dir + "/one.tar")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/one.tgz", gzipped(t, one))
	write(t, dir+"/cut.tar", one[:len(one)/2])
	write(t, dir+"/cut.tgz", gzipped(t, one)[:200])
	write(t, dir+"/junk.tar", bytes.Repeat([]byte("junk"), 1000))
	write(t, dir+"/empty.tar", nil)
	write(t, dir+"/rootfs.tar", pack(t, e{h: tar.Header{Typeflag: tar.TypeDir, Name: "bin"}}, file("bin/sh", "x")))
	write(t, dir+"/old.tar", oldDocker(t))
	if err := os.CopyFS(dir+"/missing", os.DirFS(dir+"/one")); err != nil {
		t.Fatal(err)
	}
	l, err := hello(t, "one").Layers()
	if err != nil {
		t.Fatal(err)
	}
	d, _ := l[0].Digest()
	if err := os.Remove(dir + "/missing/blobs/sha256/" + d.Hex); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir+"/link", os.DirFS(dir+"/missing")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", dir+"/link/blobs/sha256/"+d.Hex); err != nil {
		t.Fatal(err)
	}
}

// oldDocker is an archive as docker save made it up to version 24: a folder
// for each layer, and a symlink for one that is there already.
func oldDocker(t *testing.T) []byte {
	t.Helper()
	layer := pack(t, dir("bin"), file("bin/hello", "old"))
	h, _, _ := v1.SHA256(bytes.NewReader(layer))
	config := `{"os":"linux","architecture":"amd64","config":{"Cmd":["/bin/hello"]},"rootfs":{"type":"layers","diff_ids":["` +
		h.String() + `","` + h.String() + `"]}}`
	c, _, _ := v1.SHA256(strings.NewReader(config))
	return pack(t,
		dir("aaa/"), file("aaa/layer.tar", string(layer)),
		dir("bbb/"), e{h: tar.Header{Typeflag: tar.TypeSymlink, Name: "bbb/layer.tar", Linkname: "../aaa/layer.tar"}},
		file(c.Hex+".json", config),
		file("manifest.json", `[{"Config":"`+c.Hex+`.json","RepoTags":null,"Layers":["aaa/layer.tar","bbb/layer.tar"]}]`),
	)
}

func TestGetFromArchives(t *testing.T) {
	alone(t)
	c := openCache(t)
	dir := t.TempDir()
	makeArchives(t, dir)
	for _, x := range []struct{ ref, want, err string }{
		{"oci:one", "one", ""},
		{"oci:two:a", "two a", ""},
		{"oci:two", "", `it holds several images: say which of ["a" "b"]`},
		{"oci:two:c", "", `it holds no image "c", only ["a" "b"]`},
		{"oci:nowhere", "", "no such file or directory"},
		{"oci:" + "missing", "one", ""}, // its layer is there by now, from oci:one
		{"oci-archive:one.oci", "one", ""},
		{"oci-archive:two.oci:b", "two b", ""},
		{"oci-archive:one.tar", "", "it has no index.json, so it is no OCI image layout"},
		{"docker-archive:one.tar", "one", ""},
		{"docker-archive:one.tar:shop:1", "one", ""},
		{"docker-archive:one.tar:docker.io/library/shop:1", "one", ""},
		{"docker-archive:one.tar:shop:2", "", `it holds no image "shop:2", only ["shop:1"]`},
		{"docker-archive:two.tar:ghcr.io/x/shop:2", "two 2", ""},
		{"docker-archive:two.tar", "", "it holds several images: say which of"},
		{"docker-archive:one.tgz", "one", ""},
		{"docker-archive:old.tar", "old", ""},
		{"docker-archive:cut.tar", "", "cut.tar: it is cut short"},
		{"docker-archive:cut.tgz", "", "cut.tgz: unexpected EOF"},
		{"docker-archive:junk.tar", "", "junk.tar: archive/tar: invalid tar header"},
		{"docker-archive:empty.tar", "", "empty.tar: it is cut short: manifest.json is not in it"},
		{"docker-archive:rootfs.tar", "", "rootfs.tar: it has no manifest.json, so docker save did not make it"},
		{"docker-archive:nowhere.tar", "", "no such file or directory"},
	} {
		t.Run(x.ref, func(t *testing.T) {
			img, err := c.Get(t.Context(), x.ref, Options{Dir: dir})
			checkError(t, err, x.err)
			if err == nil && (says(t, img) != x.want || len(img.Layers) != 1) {
				t.Errorf("%s %v", says(t, img), img.Layers)
			}
		})
	}
	leftovers(t, c, tmpDir, useDir)
}

func TestGetBadLayout(t *testing.T) {
	alone(t)
	c := openCache(t)
	dir := t.TempDir()
	makeArchives(t, dir)
	for _, x := range []struct{ ref, err string }{
		{"oci:missing", "is missing"},
		{"oci:link", "path escapes from parent"},
	} {
		_, err := c.Get(t.Context(), x.ref, Options{Dir: dir})
		checkError(t, err, x.err)
	}
	leftovers(t, c, tmpDir, useDir, layerDir, recordDir)
}
