package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// maxLine is how long a line of a journal may be, in bytes, so that a damaged
// one without newlines cannot take all memory.
const maxLine = 16 << 20

// unknown is the size of a journal whose end is to be looked at before
// anything is appended.
const unknown = -1

// writer appends to one journal whose lock is held.
type writer struct {
	encode func(*experiment.Event) ([]byte, error)
	now    Clock

	mu       sync.Mutex
	f        *os.File // nil once the lock is given up
	size     int64    // bytes up to the end of the last whole line, or unknown
	readOnly error    // why nothing can be written
}

// Append writes e to the journal of e.Run, whose lock must be held; else it
// gives ErrNotLocked. A zero Wall or Boot is filled in. An event that
// announces a change is on disk when Append returns. What could not be
// written whole is cut off again: an Append that failed leaves nothing. It
// does not heed ctx: what happened is written down, whoever has given up.
func (s *Store) Append(_ context.Context, e experiment.Event) error {
	s.mu.Lock()
	w := s.held[e.Run]
	s.mu.Unlock()
	if w == nil {
		return fmt.Errorf("append %s to journal of run %q: %w", e.Kind, string(e.Run), ErrNotLocked)
	}
	return w.append(&e)
}

func (w *writer) append(e *experiment.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return fmt.Errorf("append %s to journal of run %s: %w", e.Kind, e.Run, ErrNotLocked)
	}
	err := w.mend()
	if err == nil {
		err = w.write(e)
	}
	if err != nil {
		return fmt.Errorf("append %s to journal %s: %w", e.Kind, w.f.Name(), err)
	}
	return nil
}

// mend finds the end of the last whole line, and cuts off what a writer that
// died left behind it.
func (w *writer) mend() error {
	if w.readOnly != nil {
		return plain(w.readOnly)
	}
	if w.size != unknown {
		return nil
	}
	st, err := w.f.Stat()
	if err != nil {
		return err
	}
	end, err := wholeLines(w.f, st.Size())
	if err != nil {
		return err
	}
	if end < st.Size() {
		if err := w.f.Truncate(end); err != nil {
			return fmt.Errorf("cut off its torn last line: %w", err)
		}
	}
	w.size = end
	return nil
}

// write appends e in one write, and syncs it where it announces a change. The
// moment is taken under the lock, so that lines are in the order of time.
func (w *writer) write(e *experiment.Event) error {
	wall, boot := w.now()
	if e.Wall.IsZero() {
		e.Wall = wall.UTC()
	}
	if e.Boot == 0 {
		e.Boot = boot
	}
	line, err := w.encode(e)
	if err != nil {
		return err
	}
	if len(line) >= maxLine {
		return fmt.Errorf("%d bytes are too long for a line (at most %d)", len(line), maxLine-1)
	}
	n, err := w.f.Write(append(line, '\n'))
	if err == nil && e.Announces() {
		err = w.sync()
	}
	if err != nil {
		return errors.Join(plain(err), w.cutBack())
	}
	w.size += int64(n)
	return nil
}

// cutBack removes what was written behind the last whole line. Where even
// that fails, the next append looks at the end again.
func (w *writer) cutBack() error {
	if err := w.f.Truncate(w.size); err != nil {
		w.size = unknown
		return fmt.Errorf("cut off the torn line: %w", plain(err))
	}
	return nil
}

func (w *writer) sync() error {
	for {
		if err := unix.Fdatasync(int(w.f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// release gives the lock up. The unlock is explicit, so that it holds for a
// child too that was forked and has not called exec yet.
func (w *writer) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	unlock(w.f)
	w.f = nil
}

// unlock gives up the lock on f, and closes it.
func unlock(f *os.File) {
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
	f.Close()
}

// plain strips the operation and path that package os puts before an error.
func plain(err error) error {
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		return pathErr.Err
	}
	return err
}

// wholeLines returns the length of the part of r, size bytes long, that
// consists of whole lines. A last line that is no JSON is not whole: readers
// ignore it, and would not if another came after it.
func wholeLines(r io.ReaderAt, size int64) (int64, error) {
	for window := int64(64 << 10); ; window *= 2 {
		start := max(0, size-window)
		tail := make([]byte, size-start)
		if _, err := r.ReadAt(tail, start); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		end := bytes.LastIndexByte(tail, '\n') + 1
		if end == 0 && start > 0 {
			continue
		}
		if end == 0 {
			return 0, nil
		}
		before := bytes.LastIndexByte(tail[:end-1], '\n') + 1
		if before == 0 && start > 0 && window < 2*maxLine {
			continue
		}
		if !jsontext.Value(tail[before : end-1]).IsValid(jsontext.AllowInvalidUTF8(true)) {
			end = before
		}
		return start + int64(end), nil
	}
}
