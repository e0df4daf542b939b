package image

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ocilayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// TestLayerFormats gets a layer in each compression.
func TestLayerFormats(t *testing.T) {
	alone(t)
	archive := pack(t, dir("bin"), file("bin/hello", "x"))
	var gz, zst bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, _ = w.Write(archive)
	w.Close()
	z, _ := zstd.NewWriter(&zst)
	_, _ = z.Write(archive)
	z.Close()
	h, _, _ := v1.SHA256(bytes.NewReader(archive))
	for _, x := range []struct {
		name string
		blob []byte
		kind types.MediaType
		err  string
	}{
		{"none", archive, types.OCIUncompressedLayer, ""},
		{"gzip", gz.Bytes(), types.OCILayer, ""},
		{"zstd", zst.Bytes(), types.OCILayerZStd, ""},
		{"zstd that says it is gzip", zst.Bytes(), types.OCILayer, ""},
		{"bzip2", []byte("BZh91AY&SY"), types.OCILayer, "it is compressed with bzip2 or xz"},
		{"junk", bytes.Repeat([]byte("junk"), 200), types.OCILayer, "archive/tar: invalid tar header"},
		{"gzip cut short", gz.Bytes()[:gz.Len()-9], types.OCILayer, "unexpected EOF"},
		{"zstd cut short", zst.Bytes()[:zst.Len()-9], types.OCILayerZStd, "unexpected EOF"},
		{"a bomb behind the archive's end", zeros(t, archive, 8<<20), types.OCILayer, "it has more than 1048576 bytes when uncompressed"},
		{"another's", gzipped(t, pack(t, file("x", "y"))), types.OCILayer, "it is damaged, or was changed"},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := openCache(t)
			dir := t.TempDir()
			writeLayout(t, dir, x.blob, x.kind, h)
			img, err := c.Get(t.Context(), "oci:"+dir, Options{MaxLayerBytes: 1 << 20})
			checkError(t, err, x.err)
			if err == nil && says(t, img) != "x" {
				t.Error(says(t, img))
			}
			if err != nil {
				leftovers(t, c, tmpDir, useDir, layerDir, recordDir)
			}
		})
	}
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	return zeros(t, data, 0)
}

// zeros gzips data and n zeros.
func zeros(t *testing.T, data []byte, n int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(data)
	_, _ = io.CopyN(w, zeroReader{}, n)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// liar is a layer whose diff id is said, not computed.
type liar struct {
	v1.Layer
	diffID v1.Hash
}

func (l liar) DiffID() (v1.Hash, error) { return l.diffID, nil }

func writeLayout(t *testing.T, dir string, blob []byte, kind types.MediaType, diffID v1.Hash) {
	t.Helper()
	p, err := ocilayout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(makeImage(t, liar{rawLayer(blob, kind), diffID})); err != nil {
		t.Fatal(err)
	}
}
