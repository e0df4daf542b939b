package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
)

// tarFile is an archive whose files are read where they lie in it, several
// at a time.
type tarFile struct {
	file  *os.File
	where map[string]section
	links map[string]string // docker save links layers that are the same
	whole bool              // it ends as archives do
}

type section struct{ at, size int64 }

// maxMembers bounds the files of an archive that holds images.
const maxMembers = 100_000

// openTar reads where an archive's files are. One that is compressed as a
// whole is first uncompressed into a nameless file. f is closed with it, or
// when it is no longer needed.
func openTar(ctx context.Context, f *os.File, w *wanted) (*tarFile, error) {
	r, err := decompress(f)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	file := f
	if _, isPlain := r.(plainReader); !isPlain {
		if file, err = spool(ctx, w.tmp, newBounded(r, w.limit.bytes)); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	t, err := indexTar(file)
	if err != nil && file != f {
		file.Close()
	}
	return t, err
}

// spool copies to a file that has no name: it goes with its last user.
func spool(ctx context.Context, dir string, r io.Reader) (*os.File, error) {
	f, err := os.CreateTemp(dir, "archive-*")
	if err != nil {
		return nil, hint(err)
	}
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.Close()
		return nil, err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, cancelled{ctx, r}, make([]byte, 256<<10)); err != nil {
		f.Close()
		return nil, hint(plain(err))
	}
	return f, nil
}

// indexTar reads an archive's headers. The reader reads whole headers only,
// and seeks over content, so that after each header the file stands at it.
func indexTar(f *os.File) (*tarFile, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	t := &tarFile{f, map[string]section{}, map[string]string{}, endsInZeros(f, size)}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("it is cut short: %w", err)
		}
		if err != nil {
			return nil, err
		}
		if err := t.note(h); err != nil {
			return nil, err
		}
	}
}

// endsInZeros tells whether an archive's last block is the mark of its end.
// One that is cut between two files lacks nothing else.
func endsInZeros(f *os.File, size int64) bool {
	last := make([]byte, 512)
	_, err := f.ReadAt(last, size-int64(len(last)))
	return err == nil && !slices.ContainsFunc(last, func(b byte) bool { return b != 0 })
}

func (t *tarFile) note(h *tar.Header) error {
	at, err := t.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if len(t.where)+len(t.links) >= maxMembers {
		return fmt.Errorf("it holds more than %d files: it is no archive of images", maxMembers)
	}
	name := path.Clean(h.Name)
	switch h.Typeflag {
	case tar.TypeReg:
		t.where[name] = section{at, h.Size}
	case tar.TypeSymlink:
		t.links[name] = path.Join(path.Dir(name), h.Linkname)
	case tar.TypeLink:
		t.links[name] = path.Clean(h.Linkname)
	}
	return nil
}

func (t *tarFile) open(name string) (io.ReadCloser, int64, error) {
	at := path.Clean(name)
	for range 8 { // links to links
		if s, ok := t.where[at]; ok {
			return io.NopCloser(io.NewSectionReader(t.file, s.at, s.size)), s.size, nil
		}
		next, ok := t.links[at]
		if !ok {
			break
		}
		at = next
	}
	if !t.whole {
		return nil, 0, fmt.Errorf("it is cut short: %s is not in it", name)
	}
	return nil, 0, &fs.PathError{Op: "find in the archive", Path: name, Err: fs.ErrNotExist}
}
