package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Cache holds what is known of images, and their layers unpacked, below one
// folder. Any number of goroutines and processes may use it at once.
type Cache struct {
	dir string // absolute
}

// The folders of a cache. Their names are short because the paths of all an
// image's layers must fit into one page of overlayfs's options.
const (
	layerDir  = "l"   // NAME/d, NAME/layer.json: see layer.go
	recordDir = "i"   // what each reference is: see record.go
	useDir    = "use" // which layers are in use: see use.go
	tmpDir    = "tmp" // what is being unpacked or removed
	lockFile  = "lock"
)

// Open opens the cache at dir, made with mode 0700 where it is not there. It
// is refused where others could write it: what is in it is run as root.
func Open(dir string) (*Cache, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open image cache: %w", err)
	}
	if strings.ContainsAny(abs, `:,\`) {
		return nil, fmt.Errorf("open image cache %s: overlayfs has no name with a colon, comma or backslash", abs)
	}
	for _, sub := range []string{layerDir, recordDir, useDir, tmpDir} {
		if err := os.MkdirAll(filepath.Join(abs, sub), 0o700); err != nil {
			return nil, fmt.Errorf("open image cache: %w", err)
		}
	}
	if err := checkOwner(abs); err != nil {
		return nil, fmt.Errorf("open image cache: %w", err)
	}
	return &Cache{abs}, nil
}

// checkOwner refuses a folder that others could have put something into.
func checkOwner(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if !isDir(&st) || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("refuse %s: it must be a folder of uid %d that nobody else can write", dir, os.Geteuid())
	}
	return nil
}

func (c *Cache) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

// Options say how an image is to be had. The zero value will do.
type Options struct {
	// Platform is os/arch[/variant]; "" is this host's.
	Platform string
	// Pull says when a registry is asked: "missing" (or ""), where the name is
	// nowhere on this machine; "always", then nowhere else is looked; "never".
	Pull string
	// Dir is what relative paths in references start from; "" is the working directory.
	Dir string
	// Progress is told how far layers are, by one goroutine at a time. It may be nil.
	Progress func(Progress)
	// MaxLayerBytes bounds a layer's archive, uncompressed, and the content of
	// its files, in bytes; 0 is DefaultMaxLayerBytes.
	MaxLayerBytes int64
	// MaxFiles bounds a layer's files and folders; 0 is DefaultMaxFiles.
	MaxFiles int64
}

// The bounds on a layer where Options says nothing: the largest layers that
// are in use (machine learning) have some 10 GiB and 300,000 files.
const (
	DefaultMaxLayerBytes = 16 << 30
	DefaultMaxFiles      = 1 << 20
)

func (o Options) limits() limits {
	l := limits{o.MaxLayerBytes, o.MaxFiles}
	if l.bytes <= 0 {
		l.bytes = DefaultMaxLayerBytes
	}
	if l.files <= 0 {
		l.files = DefaultMaxFiles
	}
	return l
}

// Image is an image whose layers are unpacked.
type Image struct {
	Ref      string   // as it was asked for
	Digest   string   // of the configuration, sha256:…: Docker's image id
	Manifest string   // what a registry calls it, sha256:…; "" where that is not known
	Platform string   // os/arch[/variant]
	Layers   []string // absolute folders, the uppermost first: overlayfs's lowerdir
	Config   Config   // what the image says of its process

	diffIDs []string // of Layers
}

// Get returns an image, with its layers unpacked. It is looked for where its
// reference says (see docs/images.md); all that was tried is in the error.
//
// What Get returns may be pruned until Use says that it is in use.
func (c *Cache) Get(ctx context.Context, ref string, o Options) (*Image, error) {
	w, err := parse(ref, o)
	if err != nil {
		return nil, fmt.Errorf("get image %s: %w", ref, err)
	}
	w.tmp = c.path(tmpDir)
	img, err := c.get(ctx, w, o)
	if err != nil {
		return nil, fmt.Errorf("get image %s: %w", ref, err)
	}
	return img, nil
}

func (c *Cache) get(ctx context.Context, w *wanted, o Options) (*Image, error) {
	t := &tries{}
	if w.cached {
		img, err := c.known(ctx, w)
		if err == nil {
			return img, nil
		}
		t.add("the cache", err)
	}
	for _, p := range w.places {
		img, err := c.from(ctx, p, w, o)
		if err == nil {
			return img, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		var u *unpackError
		if errors.As(err, &u) {
			return nil, err // it was found, and is bad: another place's may be something else
		}
		t.add(p.String(), err)
	}
	return nil, t.err()
}

// from gets an image from one place.
func (c *Cache) from(ctx context.Context, p place, w *wanted, o Options) (*Image, error) {
	f, err := p.find(ctx, w)
	if err != nil {
		return nil, err
	}
	defer f.close()
	f.from = p.String()
	r := newRecord(w, f)
	hold, err := c.hold(ctx, holder{Holder: "get", Ref: w.key, Layers: r.DiffIDs})
	if err != nil {
		return nil, err
	}
	defer hold.drop()
	layers, err := c.unpackAll(ctx, f, o)
	if err != nil {
		return nil, &unpackError{err}
	}
	if err := c.writeRecord(ctx, r); err != nil {
		return nil, &unpackError{err}
	}
	return r.image(w.ref, c.stack(layers)), nil
}

// unpackError is an error after an image was found.
type unpackError struct{ err error }

func (e *unpackError) Error() string { return e.err.Error() }
func (e *unpackError) Unwrap() error { return e.err }

// tries is what was tried to find an image, and why it failed.
type tries struct {
	where []string
	errs  []error
}

func (t *tries) add(where string, err error) {
	t.where = append(t.where, where)
	t.errs = append(t.errs, err)
}

// err is one error of them all, on one line.
func (t *tries) err() error {
	if len(t.errs) == 1 {
		return t.errs[0]
	}
	return t
}

// Error implements error.
func (t *tries) Error() string {
	var parts []string
	for i, err := range t.errs {
		parts = append(parts, t.where[i]+": "+strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return "it is nowhere to be had: " + strings.Join(parts, "; ")
}

// Unwrap gives the single errors.
func (t *tries) Unwrap() []error { return t.errs }
