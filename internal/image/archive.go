package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// archive is a file, or a folder, that holds images.
type archive struct {
	kind  string // docker-archive, oci-archive, oci
	path  string
	image string // which of them: a tag, for docker-archive a name with its tag; "" where there is one
}

func (a archive) String() string { return a.kind + ":" + a.path }

func (a archive) find(ctx context.Context, w *wanted) (*found, error) {
	in, closeIt, err := a.open(ctx, w)
	if err != nil {
		return nil, err
	}
	var f *found
	if a.kind == "docker-archive" {
		f, err = fromDocker(in, a.image, w.platform)
	} else {
		f, err = fromLayout(ctx, in, a.image, w.platform)
	}
	if err != nil {
		closeIt()
		return nil, fmt.Errorf("read %s: %w", a.path, err)
	}
	f.close = closeIt
	return f, nil
}

func (a archive) open(ctx context.Context, w *wanted) (files, func(), error) {
	if a.kind == "oci" {
		root, err := os.OpenRoot(a.path)
		if err != nil {
			return nil, nil, err
		}
		return folder{root}, func() { root.Close() }, nil
	}
	f, err := os.Open(a.path)
	if err != nil {
		return nil, nil, err
	}
	in, err := openTar(ctx, f, w)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("read %s: %w", a.path, err)
	}
	return in, func() { in.file.Close() }, nil
}

// files are those of an image in a folder or an archive.
type files interface {
	// open gives fs.ErrNotExist for one that is not there.
	open(name string) (io.ReadCloser, int64, error)
}

// folder is an OCI layout on disk. Links in it lead nowhere else.
type folder struct{ root *os.Root }

func (f folder) open(name string) (io.ReadCloser, int64, error) {
	file, err := f.root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", name)
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

func readFile(in files, name string) ([]byte, error) {
	r, _, err := in.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readDocument(r)
}

// layout is an OCI image layout (OCI image specification, image-layout.md).
type layout struct{ files }

func (l layout) blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	r, _, err := l.open(path.Join("blobs", d.Digest.Algorithm, d.Digest.Hex))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s is missing", d.Digest)
	}
	return r, err
}

// The annotations that name an image in a layout: OCI's, and containerd's.
const (
	tagNote  = "org.opencontainers.image.ref.name"
	nameNote = "io.containerd.image.name"
)

// fromLayout finds an image in an OCI layout.
func fromLayout(ctx context.Context, in files, tag string, p platform) (*found, error) {
	raw, err := readFile(in, "index.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("it has no index.json, so it is no OCI image layout")
	}
	if err != nil {
		return nil, err
	}
	var index manifestDoc
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("read index.json: %w", err)
	}
	list, err := tagged(index.Manifests, tag)
	if err != nil {
		return nil, err
	}
	d := list[0]
	if len(list) > 1 {
		if d, err = p.choose(list); err != nil {
			return nil, err
		}
	}
	return resolve(ctx, layout{in}, d, p)
}

// tagged returns the images of a layout that bear this tag: more than one
// where they are for several platforms.
func tagged(list []v1.Descriptor, tag string) ([]v1.Descriptor, error) {
	if len(list) == 0 {
		return nil, errors.New("it holds no image")
	}
	var match []v1.Descriptor
	var tags []string
	for _, d := range list {
		has := d.Annotations[tagNote]
		if tag == "" || has == tag || d.Annotations[nameNote] == tag || strings.HasSuffix(has, ":"+tag) {
			match = append(match, d)
		}
		tags = append(tags, has)
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	switch {
	case len(match) == 0:
		return nil, fmt.Errorf("it holds no image %q, only %q", tag, tags)
	case tag == "" && len(tags) > 1:
		return nil, fmt.Errorf("it holds several images: say which of %q", tags)
	}
	return match, nil
}

// saved is an image in manifest.json of an archive by docker save.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// fromDocker finds an image in an archive as docker save makes it.
func fromDocker(in files, want string, p platform) (*found, error) {
	raw, err := readFile(in, "manifest.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("it has no manifest.json, so docker save did not make it")
	}
	if err != nil {
		return nil, err
	}
	var list []saved
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("read manifest.json: %w", err)
	}
	s, err := pick(list, want)
	if err != nil {
		return nil, err
	}
	config, err := readFile(in, s.Config)
	if err != nil {
		return nil, fmt.Errorf("read its configuration: %w", err)
	}
	f, err := newFound(config, p)
	if err != nil {
		return nil, err
	}
	if err := checkName(s.Config, f.digest); err != nil {
		return nil, err
	}
	return f, savedLayers(in, f, s.Layers)
}

// checkName holds a configuration to the digest that is its file's name.
func checkName(file, digest string) error {
	h, err := v1.NewHash("sha256:" + strings.TrimSuffix(path.Base(file), ".json"))
	if err == nil && h.String() != digest {
		return fmt.Errorf("its configuration should have the digest %s and has %s", h, digest)
	}
	return nil
}

func savedLayers(in files, f *found, names []string) error {
	if len(names) != len(f.layers) {
		return fmt.Errorf("manifest.json has %d layers, its configuration %d", len(names), len(f.layers))
	}
	for i, n := range names {
		r, size, err := in.open(n)
		if err != nil {
			return fmt.Errorf("layer %s is missing: %w", f.layers[i].diffID, err)
		}
		r.Close()
		f.layers[i].size = size
		f.layers[i].open = func(context.Context) (io.ReadCloser, error) {
			r, _, err := in.open(n)
			return r, err
		}
	}
	return nil
}

// pick returns the image of that name; where none is given, the only one.
func pick(list []saved, want string) (saved, error) {
	var all []string
	for _, s := range list {
		if want != "" && slices.ContainsFunc(s.RepoTags, func(t string) bool { return sameName(t, want) }) {
			return s, nil
		}
		all = append(all, s.RepoTags...)
	}
	switch {
	case len(list) == 0:
		return saved{}, errors.New("it holds no image")
	case want != "":
		return saved{}, fmt.Errorf("it holds no image %q, only %q", want, all)
	case len(list) > 1:
		return saved{}, fmt.Errorf("it holds several images: say which of %q", all)
	}
	return list[0], nil
}

func sameName(a, b string) bool {
	x, err := name.ParseReference(a)
	if err != nil {
		return a == b
	}
	y, err := name.ParseReference(b)
	return err == nil && x.Name() == y.Name()
}
