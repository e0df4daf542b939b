package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// record is what a reference was last found to be on a platform. The file's
// own time is that of its last use.
type record struct {
	Ref      string    `json:"ref"` // in its full form: see wanted.key
	Platform string    `json:"platform"`
	Digest   string    `json:"digest"`
	Manifest string    `json:"manifest,omitempty"`
	From     string    `json:"from"`            // the place
	Stamp    string    `json:"stamp,omitempty"` // the place's own name for the image, where the place can change it
	Created  time.Time `json:"created"`
	Pulled   time.Time `json:"pulled"`
	DiffIDs  []string  `json:"diffIDs"` // lowermost first
	Config   Config    `json:"config"`

	file string
	used time.Time
}

func newRecord(w *wanted, f *found) record {
	r := record{
		Ref: w.key, Platform: w.platform.String(),
		Digest: f.digest, Manifest: f.manifest, From: f.from, Stamp: f.stamp,
		Created: f.file.Created, Pulled: time.Now().UTC(), Config: f.file.config(),
	}
	for _, l := range f.layers {
		r.DiffIDs = append(r.DiffIDs, l.diffID.String())
	}
	return r
}

// image makes an Image of it.
func (r record) image(ref string, layers []string) *Image {
	return &Image{
		Ref: ref, Digest: r.Digest, Manifest: r.Manifest, Platform: r.Platform,
		Layers: layers, Config: r.Config, diffIDs: r.DiffIDs,
	}
}

// recordName is the file of a reference on a platform.
func recordName(key, platform string) string {
	sum := sha256.Sum256([]byte(key + "\x00" + platform))
	return hex.EncodeToString(sum[:12]) + ".json"
}

// writeRecord writes one under the cache's lock, so that records can tell
// what was left half-written.
func (c *Cache) writeRecord(ctx context.Context, r record) error {
	unlock, err := c.lock(ctx, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer unlock()
	if err := writeJSON(c.path(recordDir, recordName(r.Ref, r.Platform)), r); err != nil {
		return hint(fmt.Errorf("note %s: %w", r.Ref, err))
	}
	return nil
}

func (c *Cache) readRecord(file string) (record, error) {
	path := c.path(recordDir, file)
	data, err := os.ReadFile(path)
	if err != nil {
		return record{}, err
	}
	r := record{file: file}
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, fmt.Errorf("read %s: %w", path, err)
	}
	if info, err := os.Stat(path); err == nil {
		r.used = info.ModTime()
	}
	return r, nil
}

// records returns all of them, and removes what killed processes were
// writing. The cache's lock must be held.
func (c *Cache) records() ([]record, error) {
	list, err := os.ReadDir(c.path(recordDir))
	if err != nil {
		return nil, err
	}
	var all []record
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".") {
			if err := os.Remove(c.path(recordDir, e.Name())); err != nil {
				return nil, err
			}
			continue
		}
		r, err := c.readRecord(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// ErrNotThere says that a place has no image of that name; what Get gives
// wraps it where that is so of any of those tried.
var ErrNotThere = errors.New("not there")

// errStale says that the place an image came from has another one by now.
var errStale = errors.New("what is there is out of date")

// known returns an image that was got before, if its layers are still there.
func (c *Cache) known(ctx context.Context, w *wanted) (*Image, error) {
	r, err := c.readRecord(recordName(w.key, w.platform.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotThere
	}
	if err != nil {
		return nil, err
	}
	if err := fresh(ctx, w, r); err != nil {
		return nil, err
	}
	layers, err := c.layersOf(r.DiffIDs)
	if err != nil {
		return nil, ErrNotThere
	}
	now := time.Now()
	_ = os.Chtimes(c.path(recordDir, r.file), now, now) // only tells prune
	return r.image(w.ref, c.stack(layers)), nil
}

// fresh asks the local store that an image came from whether it still has
// this one by the name: a developer builds anew under the same name all day.
// A store that is gone is no reason not to go on, unless it is named.
func fresh(ctx context.Context, w *wanted, r record) error {
	if r.Stamp == "" {
		return nil
	}
	for _, p := range w.places {
		s, ok := p.(stamper)
		if !ok || p.String() != r.From {
			continue
		}
		now, err := s.stamp(ctx, w)
		if err != nil && w.only {
			return err
		}
		if err == nil && now != r.Stamp {
			return errStale
		}
	}
	return nil
}

// layersOf returns unpacked layers; an error if one is missing.
func (c *Cache) layersOf(diffIDs []string) ([]layer, error) {
	list := make([]layer, len(diffIDs))
	for i, id := range diffIDs {
		l, err := c.findLayer(id)
		if err != nil {
			return nil, err
		}
		list[i] = l
	}
	return list, nil
}
