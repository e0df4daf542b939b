package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// holder is the content of a file in use/: who needs which layers. It counts
// for as long as the process that wrote it keeps it locked.
type holder struct {
	Holder string   `json:"holder"`
	Ref    string   `json:"ref"`
	Digest string   `json:"digest,omitempty"`
	Layers []string `json:"layers"` // diff ids
}

// holderName is what may stand in a file's name.
var holderName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$`)

// ErrPruned says that an image's layers were removed since it was got: Get it again.
var ErrPruned = errors.New("its layers were removed meanwhile")

// Use says that holder (a run's id: letters, digits, - and _) needs the layers
// of img. They are not removed until release is called or this process ends,
// however it ends. A file named for the holder stays behind when the process
// is killed; Release takes it away, and so does the next Prune.
func (c *Cache) Use(ctx context.Context, img *Image, name string) (release func() error, err error) {
	if !holderName.MatchString(name) {
		return nil, fmt.Errorf("use image %s: %q is no name for a holder", img.Ref, name)
	}
	h, err := c.hold(ctx, holder{name, img.Ref, img.Digest, img.diffIDs})
	if err != nil {
		return nil, fmt.Errorf("use image %s: %w", img.Ref, err)
	}
	if _, err := c.layersOf(img.diffIDs); err != nil {
		return nil, errors.Join(fmt.Errorf("use image %s: %w", img.Ref, ErrPruned), h.drop())
	}
	return h.drop, nil
}

// Release removes what killed processes of this holder left in the cache. It
// may be called any number of times; what a living process holds stays, and
// is an error.
func (c *Cache) Release(ctx context.Context, name string) error {
	unlock, err := c.lock(ctx, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	all, err := c.holders()
	if err != nil {
		return fmt.Errorf("release images of %s: %w", name, err)
	}
	for _, h := range all {
		if h.Holder == name {
			return fmt.Errorf("release images of %s: %w", name, errInUse)
		}
	}
	return nil
}

var errInUse = errors.New("a process still uses them")

// held is a locked file in use/.
type held struct{ f *os.File }

// hold writes and locks a holder's file. Until its layers are listed there,
// nobody may decide that they are not in use.
func (c *Cache) hold(ctx context.Context, h holder) (*held, error) {
	unlock, err := c.lock(ctx, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer unlock()
	f, err := os.CreateTemp(c.path(useDir), h.Holder+".*")
	if err != nil {
		return nil, fmt.Errorf("note who uses it: %w", err)
	}
	data, err := json.Marshal(h)
	if err == nil {
		err = flock(ctx, f, unix.LOCK_EX)
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err != nil {
		return nil, hint(errors.Join(fmt.Errorf("note who uses it: %w", err), os.Remove(f.Name()), f.Close()))
	}
	return &held{f}, nil
}

// drop gives the layers up. It may be called again.
func (h *held) drop() error {
	err := os.Remove(h.f.Name())
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if closing := h.f.Close(); !errors.Is(closing, os.ErrClosed) {
		err = errors.Join(err, closing)
	}
	return err
}

// holders returns those that live, and removes the files of those that don't.
// The cache's lock must be held: a file that is just being written is not
// locked yet.
func (c *Cache) holders() ([]holder, error) {
	list, err := os.ReadDir(c.path(useDir))
	if err != nil {
		return nil, err
	}
	var live []holder
	for _, e := range list {
		h, err := readHolder(c.path(useDir, e.Name()))
		if err != nil {
			return nil, err
		}
		if h != nil {
			live = append(live, *h)
		}
	}
	return live, nil
}

// readHolder reads the file of a holder that lives; nil if it doesn't.
func readHolder(path string) (*holder, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // dropped just now
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	err = tryFlock(f, unix.LOCK_EX)
	if err == nil {
		if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		return nil, nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("read who uses layers: %w", err)
	}
	h := holder{Holder: strings.SplitN(filepath.Base(path), ".", 2)[0]}
	if err := json.NewDecoder(f).Decode(&h); err != nil {
		return nil, fmt.Errorf("read who uses layers, %s: %w", path, err)
	}
	return &h, nil
}
