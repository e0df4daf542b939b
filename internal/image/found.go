package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// found is an image as a place has it: read and checked but for its layers.
type found struct {
	file     configFile
	digest   string // of the configuration, as it lies there
	manifest string // the digest a registry knows it by; "" where that is not known
	from     string // the place
	stamp    string // see stamper
	layers   []blob // the lowermost first
	close    func()
}

// blob is one layer's archive, as it lies there.
type blob struct {
	diffID v1.Hash // of what comes out uncompressed
	digest v1.Hash // of the archive as it lies there; zero where that is not known
	size   int64   // in bytes, as it lies there; 0 where that is not known
	open   func(ctx context.Context) (io.ReadCloser, error)
}

// The most that is read of an image's descriptions, in bytes, and of its
// layers: the bounds of Docker's own registry and daemon.
const (
	maxDocument = 8 << 20
	maxLayers   = 127
)

// newFound reads an image's configuration. Its layers have no open yet.
func newFound(config []byte, p platform) (*found, error) {
	sum := sha256.Sum256(config)
	f := &found{digest: "sha256:" + hex.EncodeToString(sum[:]), close: func() {}}
	if err := json.Unmarshal(config, &f.file); err != nil {
		return nil, fmt.Errorf("read its configuration: %w", err)
	}
	if err := p.check(f.file); err != nil {
		return nil, err
	}
	ids := f.file.RootFS.DiffIDs
	switch {
	case len(ids) == 0:
		return nil, errors.New("it has no layers: it is no image of a container, or an empty one")
	case len(ids) > maxLayers:
		return nil, fmt.Errorf("it has %d layers, more than %d", len(ids), maxLayers)
	}
	for _, id := range ids {
		h, err := v1.NewHash(id)
		if err == nil && h.Algorithm != "sha256" {
			err = fmt.Errorf("%s is not known", h.Algorithm)
		}
		if err != nil {
			return nil, fmt.Errorf("read its configuration: diff id %q: %w", id, err)
		}
		f.layers = append(f.layers, blob{diffID: h})
	}
	return f, nil
}

// blobs is a store of content by digest: a registry's repository, an OCI
// layout, containerd's content store.
type blobs interface {
	blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
}

// resolve follows a descriptor to an image: from an index to the manifest for
// the platform, from there to the configuration, each held to its digest.
func resolve(ctx context.Context, b blobs, d v1.Descriptor, p platform) (*found, error) {
	top := d.Digest.String()
	for range 4 { // an index may hold an index
		doc, err := document(ctx, b, d)
		if err != nil {
			return nil, err
		}
		if doc.Manifests == nil {
			f, err := fromManifest(ctx, b, doc, p)
			if err == nil {
				f.manifest = top
			}
			return f, err
		}
		if d, err = p.choose(doc.Manifests); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("its index leads to an index, and so on")
}

// manifestDoc is an index or a manifest.
type manifestDoc struct {
	SchemaVersion int64           `json:"schemaVersion"`
	Manifests     []v1.Descriptor `json:"manifests"`
	Config        v1.Descriptor   `json:"config"`
	Layers        []v1.Descriptor `json:"layers"`
}

func document(ctx context.Context, b blobs, d v1.Descriptor) (manifestDoc, error) {
	var doc manifestDoc
	raw, err := readBlob(ctx, b, d)
	if err != nil {
		return doc, fmt.Errorf("read its manifest: %w", err)
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return doc, fmt.Errorf("read its manifest: %w", err)
	}
	if doc.SchemaVersion == 1 {
		return doc, errors.New("read its manifest: it is of version 1, which Docker gave up in 2017")
	}
	return doc, nil
}

func fromManifest(ctx context.Context, b blobs, doc manifestDoc, p platform) (*found, error) {
	if t := string(doc.Config.MediaType); t != "" && !strings.Contains(t, "image") {
		return nil, fmt.Errorf("it is no image of a container, but %s", t)
	}
	config, err := readBlob(ctx, b, doc.Config)
	if err != nil {
		return nil, fmt.Errorf("read its configuration: %w", err)
	}
	f, err := newFound(config, p)
	if err != nil {
		return nil, err
	}
	if len(f.layers) != len(doc.Layers) {
		return nil, fmt.Errorf("its manifest has %d layers, its configuration %d", len(doc.Layers), len(f.layers))
	}
	for i, d := range doc.Layers {
		if strings.Contains(string(d.MediaType), "encrypted") {
			return nil, fmt.Errorf("layer %d is encrypted", i+1)
		}
		f.layers[i].digest, f.layers[i].size = d.Digest, d.Size
		f.layers[i].open = func(ctx context.Context) (io.ReadCloser, error) { return b.blob(ctx, d) }
	}
	return f, nil
}

// readBlob reads a small blob and checks it.
func readBlob(ctx context.Context, b blobs, d v1.Descriptor) ([]byte, error) {
	r, err := b.blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := readDocument(r)
	if err != nil {
		return nil, err
	}
	h, _, err := v1.SHA256(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if h != d.Digest {
		return nil, fmt.Errorf("it should have the digest %s and has %s", d.Digest, h)
	}
	return data, nil
}

func readDocument(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err == nil && len(data) > maxDocument {
		err = fmt.Errorf("it has more than %d bytes", maxDocument)
	}
	return data, err
}
