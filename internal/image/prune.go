package image

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Entry is an image in the cache, as simian image ls shows it.
type Entry struct {
	Ref      string    `json:"ref"`      // as one can ask for it
	Digest   string    `json:"digest"`   // of the configuration, sha256:…
	Manifest string    `json:"manifest"` // what a registry calls it; "" where that is not known
	Platform string    `json:"platform"` // os/arch[/variant]
	From     string    `json:"from"`     // where it came from
	Size     int64     `json:"size"`     // on disk, in bytes, of all its layers; others may share them
	Created  time.Time `json:"created"`  // zero where the image does not say
	Pulled   time.Time `json:"pulled"`
	Used     time.Time `json:"used"`            // when it was last asked for
	InUseBy  []string  `json:"inUseBy"`         // the living holders of its layers, sorted
	Broken   bool      `json:"broken,omitzero"` // a layer is missing: it will be got anew
}

// List returns what is in the cache, sorted by reference and platform.
func (c *Cache) List(ctx context.Context) ([]Entry, error) {
	unlock, err := c.lock(ctx, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s, err := c.survey()
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	list := []Entry{}
	for _, r := range s.records {
		list = append(list, s.entry(r))
	}
	slices.SortFunc(list, func(a, b Entry) int {
		return strings.Compare(a.Ref+"\x00"+a.Platform, b.Ref+"\x00"+b.Platform)
	})
	return list, nil
}

// survey is all that a cache holds at one moment. The cache's lock must be held.
type survey struct {
	records []record
	live    []holder
	layers  []layer
}

func (c *Cache) survey() (s survey, err error) {
	if s.live, err = c.holders(); err != nil {
		return s, err
	}
	if s.records, err = c.records(); err != nil {
		return s, err
	}
	list, err := os.ReadDir(c.path(layerDir))
	if err != nil {
		return s, err
	}
	for _, e := range list {
		l, err := c.readLayer(e.Name())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
		l.name = e.Name() // one without a file is nobody's
		s.layers = append(s.layers, l)
	}
	return s, nil
}

func (s survey) entry(r record) Entry {
	e := Entry{
		Ref: r.Ref, Digest: r.Digest, Manifest: r.Manifest, Platform: r.Platform, From: r.From,
		Created: r.Created, Pulled: r.Pulled, Used: r.used, InUseBy: s.users(r),
	}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(r.DiffIDs))) {
		i := slices.IndexFunc(s.layers, func(l layer) bool { return l.DiffID == id })
		if i < 0 {
			e.Broken = true
			continue
		}
		e.Size += s.layers[i].Bytes
	}
	return e
}

// users returns who holds this very image.
func (s survey) users(r record) []string {
	list := []string{}
	for _, h := range s.live {
		if h.Digest == r.Digest && !slices.Contains(list, h.Holder) {
			list = append(list, h.Holder)
		}
	}
	slices.Sort(list)
	return list
}

// Pruned is what was removed.
type Pruned struct {
	Images []string `json:"images"` // references
	Layers int      `json:"layers"`
	Bytes  int64    `json:"bytes"` // on disk, about
}

// PruneOptions say what may go.
type PruneOptions struct {
	// All removes every image that no living lab uses; else only layers go
	// that belong to no image any more.
	All bool
	// UnusedFor spares images, with All, that were asked for since.
	UnusedFor time.Duration
}

// Prune removes what no image and no living lab uses, and what killed
// processes left.
func (c *Cache) Prune(ctx context.Context, o PruneOptions) (Pruned, error) {
	before := time.Now().Add(-o.UnusedFor)
	return c.remove(ctx, "prune images", func(s survey, r record) (bool, error) {
		return o.All && len(s.users(r)) == 0 && !r.used.After(before), nil
	})
}

// InUseError says that an image is not removed since labs use it.
type InUseError struct {
	Ref string
	By  []string
}

// Error implements error.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is in use by %s: end that first", e.Ref, strings.Join(e.By, ", "))
}

// Remove removes an image for all platforms, with the layers that nothing
// else uses. It is named by its reference, or by the first twelve or more
// digits of its digest. One that a living lab uses gives an *InUseError.
func (c *Cache) Remove(ctx context.Context, ref string) error {
	is, err := matcher(ref)
	if err != nil {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	var removed Pruned
	removed, err = c.remove(ctx, "remove image "+ref, func(s survey, r record) (bool, error) {
		if !is(r) {
			return false, nil
		}
		if by := s.users(r); len(by) > 0 {
			return false, &InUseError{r.Ref, by}
		}
		return true, nil
	})
	if err == nil && len(removed.Images) == 0 {
		return fmt.Errorf("remove image %s: %w in the cache", ref, ErrNotThere)
	}
	return err
}

// matcher tells which records a user means.
func matcher(ref string) (func(record) bool, error) {
	digits := strings.TrimPrefix(ref, "sha256:")
	if _, err := hex.DecodeString(digits[:len(digits)&^1]); err == nil && len(digits) >= nameLen {
		return func(r record) bool { return strings.HasPrefix(r.Digest, "sha256:"+digits) }, nil
	}
	w, err := parse(ref, Options{})
	if err != nil {
		return nil, err
	}
	return func(r record) bool { return r.Ref == w.key }, nil
}

// remove removes the records that goes says, then the layers that nothing
// needs any more. They are only moved away under the lock: to remove them takes longer.
func (c *Cache) remove(ctx context.Context, what string, goes func(survey, record) (bool, error)) (Pruned, error) {
	p, err := c.moveAway(ctx, goes)
	if err == nil {
		err = c.sweep()
	}
	if err != nil {
		return p, fmt.Errorf("%s: %w", what, err)
	}
	return p, nil
}

func (c *Cache) moveAway(ctx context.Context, goes func(survey, record) (bool, error)) (Pruned, error) {
	p := Pruned{Images: []string{}}
	unlock, err := c.lock(ctx, unix.LOCK_EX)
	if err != nil {
		return p, err
	}
	defer unlock()
	s, err := c.survey()
	if err != nil {
		return p, err
	}
	keep, err := c.dropRecords(s, goes, &p)
	if err != nil {
		return p, err
	}
	for _, l := range s.layers {
		if keep[l.DiffID] {
			continue
		}
		trash := c.path(tmpDir, fmt.Sprintf("%s-%x", l.name, rand.Uint64()))
		if err := os.Rename(c.path(layerDir, l.name), trash); err != nil {
			return p, err
		}
		p.Layers++
		p.Bytes += l.Bytes
	}
	return p, nil
}

// dropRecords removes records, once it is sure of them all, and returns the
// diff ids that the others and the living holders need.
func (c *Cache) dropRecords(s survey, goes func(survey, record) (bool, error), p *Pruned) (map[string]bool, error) {
	keep := map[string]bool{}
	for _, h := range s.live {
		note(keep, h.Layers)
	}
	var gone []record
	for _, r := range s.records {
		switch yes, err := goes(s, r); {
		case err != nil:
			return nil, err
		case yes:
			gone = append(gone, r)
		default:
			note(keep, r.DiffIDs)
		}
	}
	for _, r := range gone {
		if err := os.Remove(c.path(recordDir, r.file)); err != nil {
			return nil, err
		}
		p.Images = append(p.Images, r.Ref)
	}
	return keep, nil
}

func note(set map[string]bool, list []string) {
	for _, s := range list {
		set[s] = true
	}
}
