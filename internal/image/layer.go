package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// layer is an unpacked one:
//
//	l/3f2a9c0d81be/d           its files
//	l/3f2a9c0d81be/layer.json  this
//
// It is unpacked at tmp/3f2a9c0d81be, which is locked meanwhile, and renamed
// once it is whole and its digest right.
type layer struct {
	DiffID string `json:"diffID"`
	stats
	name string // 3f2a9c0d81be
}

const (
	filesDir  = "d"
	layerFile = "layer.json"
	nameLen   = 12 // hex digits of the diff id
)

// parallel is how many layers of an image are unpacked at the same time.
const parallel = 2

// unpackAll unpacks those of an image's layers that are not there, and
// returns them all, the lowermost first.
func (c *Cache) unpackAll(ctx context.Context, f *found, o Options) ([]layer, error) {
	if err := c.sweep(); err != nil {
		return nil, err
	}
	list := make([]layer, len(f.layers))
	var mu sync.Mutex
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(parallel)
	for i, b := range f.layers {
		tell := func(p Progress) {
			if o.Progress != nil {
				mu.Lock()
				defer mu.Unlock()
				p.From, p.Layer, p.Index, p.Layers = f.from, b.diffID.String(), i+1, len(f.layers)
				o.Progress(p)
			}
		}
		work.Go(func() (err error) {
			list[i], err = c.layer(ctx, b, o.limits(), tell)
			return err
		})
	}
	return list, work.Wait()
}

// layer returns a layer, unpacked now if it is not there. Its name is the
// first digits of its diff id that are not another layer's: who makes images
// can make two that begin alike.
func (c *Cache) layer(ctx context.Context, b blob, l limits, tell func(Progress)) (layer, error) {
	for at := 0; at+nameLen <= len(b.diffID.Hex); at += nameLen {
		got, err := c.fill(ctx, b.diffID.Hex[at:at+nameLen], b, l, tell)
		if !errors.Is(err, errTaken) {
			return got, err
		}
	}
	return layer{}, fmt.Errorf("unpack layer %s: %w", b.diffID, errTaken)
}

// errTaken says that a layer's name belongs to another layer.
var errTaken = errors.New("its name is another layer's")

// fill unpacks a layer under this name, unless it is there.
func (c *Cache) fill(ctx context.Context, name string, b blob, l limits, tell func(Progress)) (layer, error) {
	for {
		got, err := c.readLayer(name)
		if err == nil && got.DiffID != b.diffID.String() {
			return layer{}, errTaken
		}
		if !errors.Is(err, fs.ErrNotExist) {
			tell(Progress{Done: true, Present: true})
			return got, err
		}
		tmp := c.path(tmpDir, name)
		dir, err := claim(ctx, tmp)
		if err == nil {
			got, err = c.unpackClaimed(ctx, name, b, l, tell)
			dir.Close()
		}
		if !errors.Is(err, errAgain) {
			return got, err
		}
	}
}

// unpackClaimed unpacks a layer in the folder of that name in tmp/, whose
// lock is held. Nothing is left there.
func (c *Cache) unpackClaimed(ctx context.Context, name string, b blob, l limits, tell func(Progress)) (_ layer, err error) {
	tmp := c.path(tmpDir, name)
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	if _, err := c.readLayer(name); err == nil {
		return layer{}, errAgain // somebody has unpacked it since
	}
	if err := clearFolder(tmp); err != nil {
		return layer{}, err
	}
	got, err := unpackBlob(ctx, b, tmp+"/"+filesDir, l, tell)
	if err != nil {
		return layer{}, fmt.Errorf("unpack layer %s: %w", b.diffID, err)
	}
	got.name = name
	if err := writeJSON(tmp+"/"+layerFile, got); err != nil {
		return layer{}, fmt.Errorf("unpack layer %s: %w", b.diffID, err)
	}
	if err := os.Rename(tmp, c.path(layerDir, name)); err != nil {
		return layer{}, fmt.Errorf("unpack layer %s: %w", b.diffID, err)
	}
	tell(Progress{Done: true})
	return got, nil
}

// clearFolder removes what a killed process left, and makes the layer's folder.
func clearFolder(tmp string) error {
	list, err := os.ReadDir(tmp)
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := os.RemoveAll(tmp + "/" + e.Name()); err != nil {
			return err
		}
	}
	if err := os.Mkdir(tmp+"/"+filesDir, 0o755); err != nil {
		return err
	}
	return os.Chmod(tmp+"/"+filesDir, 0o755) // whatever the umask
}

// unpackBlob unpacks a layer's archive into dir, and checks that it is the
// one its image names.
func unpackBlob(ctx context.Context, b blob, dir string, l limits, tell func(Progress)) (layer, error) {
	raw, err := b.open(ctx)
	if err != nil {
		return layer{}, err
	}
	defer raw.Close()
	r, err := decompress(&told{r: cancelled{ctx, raw}, size: b.size, tell: tell})
	if err != nil {
		return layer{}, fmt.Errorf("read its archive: %w", err)
	}
	defer r.Close()
	sum := sha256.New()
	all := io.TeeReader(newBounded(r, l.bytes), sum)
	s, err := unpack(ctx, all, dir, l)
	if err != nil {
		return layer{}, hint(err)
	}
	if _, err := io.Copy(io.Discard, all); err != nil { // what is behind the archive's end counts too
		return layer{}, fmt.Errorf("read the archive: %w", err)
	}
	got := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if got != b.diffID.String() {
		return layer{}, fmt.Errorf("its content has the digest %s: it is damaged, or was changed", got)
	}
	return layer{DiffID: got, stats: s}, nil
}

// hint adds what to do.
func hint(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: the image cache's disk is full (simian image prune makes room)", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: unpacking needs root", err)
	}
	return err
}

// readLayer reads what is known of the layer by that name.
func (c *Cache) readLayer(name string) (layer, error) {
	data, err := os.ReadFile(c.path(layerDir, name, layerFile))
	if err != nil {
		return layer{}, err
	}
	var l layer
	if err := json.Unmarshal(data, &l); err != nil {
		return layer{}, fmt.Errorf("read layer %s of the image cache: %w", name, err)
	}
	l.name = name
	return l, nil
}

// find returns the unpacked layer with this diff id.
func (c *Cache) findLayer(diffID string) (layer, error) {
	h, err := v1.NewHash(diffID)
	if err != nil {
		return layer{}, err
	}
	for at := 0; at+nameLen <= len(h.Hex); at += nameLen {
		l, err := c.readLayer(h.Hex[at : at+nameLen])
		if err != nil || l.DiffID == diffID {
			return l, err
		}
	}
	return layer{}, fs.ErrNotExist
}

// stack returns the folders of layers, given lowermost first, as overlayfs
// stacks them: the uppermost first. A layer that comes twice is left out
// where it comes first, which changes nothing that shows, since overlayfs
// refuses one folder twice. What lies below an opaque root is left out.
func (c *Cache) stack(layers []layer) []string {
	var list []string
	seen := map[string]bool{}
	for i := len(layers) - 1; i >= 0; i-- {
		if l := layers[i]; !seen[l.name] {
			seen[l.name] = true
			list = append(list, c.path(layerDir, l.name, filesDir))
		}
		if layers[i].Opaque {
			break
		}
	}
	return list
}

// writeJSON writes a file that appears whole or not at all. Its name may not
// begin with a dot: who lists the folder leaves those out.
func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	dir := path[:strings.LastIndexByte(path, '/')+1]
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
