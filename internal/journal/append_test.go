package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

func TestAppendNeedsTheLock(t *testing.T) {
	t.Parallel()
	s := created(t)
	appendAll(t, s, begin())
	s.Release(testRun)
	wantErr(t, s.Append(t.Context(), sample(1)), ErrNotLocked)
	e := sample(1)
	e.Run = ""
	wantErr(t, s.Append(t.Context(), e), ErrNotLocked)
}

func TestManyAppendAtOnce(t *testing.T) {
	t.Parallel()
	s := created(t)
	appendAll(t, s, begin())
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			e := sample(i)
			if i%10 == 0 {
				e = announce(i)
			}
			if err := s.Append(t.Context(), e); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	events, err := s.Events(t.Context(), testRun)
	must(t, err)
	if len(events) != 201 {
		t.Fatalf("read %d events", len(events))
	}
	for i := 1; i < len(events); i++ {
		if events[i].Boot <= events[i-1].Boot {
			t.Errorf("event %d is not after the one before it", i)
		}
	}
}

// What the holder before left half written is cut off before anything is
// appended.
func TestAppendAfterATornLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300<<10)
	for name, torn := range map[string]string{
		"cut":            `{"wall":"2026-03-01T12:00`,
		"without end":    `{"wall":"2026-03-01T12:00:00Z","boot":1,"kind":"phase"}`,
		"long":           `{"message":"` + long,
		"zeros":          string(make([]byte, 4096)),
		"no JSON":        "{\"wall\":\x00\x00\x00}\n",
		"long, no JSON":  `{"message":"` + long + "\n",
		"longer, no end": strings.Repeat("y", 3<<20),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := created(t)
			message := experiment.Event{Run: testRun, Kind: experiment.EventWarning, Message: long}
			appendAll(t, s, begin(), message)
			s.Release(testRun)
			f, err := os.OpenFile(filepath.Join(s.Dir(), "open/abc234.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteString(torn)
			must(t, errors.Join(err, f.Close()))

			must(t, s.Lock(t.Context(), testRun))
			appendAll(t, s, announce(1))
			events, err := s.Events(t.Context(), testRun)
			must(t, err)
			if len(events) != 3 || events[1].Message != long || len(events[2].Steps) != 1 {
				t.Errorf("read %d events", len(events))
			}
		})
	}
}

func TestAppendRefusesWhatCannotBeReadBack(t *testing.T) {
	t.Parallel()
	s := created(t)
	e := experiment.Event{Run: testRun, Kind: experiment.EventWarning, Message: strings.Repeat("x", maxLine)}
	if err := s.Append(t.Context(), e); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v", err)
	}
	e.Message = strings.Repeat("x", maxLine-200)
	appendAll(t, s, begin(), e)
	if events, err := s.Events(t.Context(), testRun); err != nil || len(events) != 2 {
		t.Errorf("read %d events, %v", len(events), err)
	}
}

// tmpfs mounts a tiny file system of its own for a test.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	needRoot(t, "mount a file system")
	dir := t.TempDir()
	if err := unix.Mount("simian-journal-test", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size="+size); err != nil {
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "64k")
	s := storeAt(t, dir)
	must(t, s.Create(t.Context(), testRun))
	appendAll(t, s, begin())
	path := filepath.Join(dir, "open/abc234.jsonl")
	written, full := 1, error(nil)
	for full == nil {
		e := announce(written)
		e.Message = strings.Repeat("x", 999)
		if full = s.Append(t.Context(), e); full == nil {
			written++
		}
	}
	wantErr(t, full, unix.ENOSPC)
	if want := "append announce to journal " + path + ": no space left on device"; full.Error() != want {
		t.Errorf("got  %v\nwant %s", full, want)
	}
	data, err := os.ReadFile(path)
	must(t, err)
	if !bytes.HasSuffix(data, []byte("}\n")) {
		t.Errorf("a torn line was left: %q", data[len(data)-20:])
	}
	// A shorter event may still fit, and nothing that was written is lost.
	appendAll(t, s, experiment.Event{Run: testRun, Kind: experiment.EventUndone, Step: 1})
	events, err := s.Events(t.Context(), testRun)
	if err != nil || len(events) != written+1 || events[written].Kind != experiment.EventUndone {
		t.Errorf("read %d of %d events, %v", len(events), written+1, err)
	}
	must(t, s.Finish(testRun))
}

func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "1m")
	s := storeAt(t, dir)
	must(t, s.Create(t.Context(), testRun))
	appendAll(t, s, begin(), announce(1))
	must(t, s.Close())
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))

	s, err := New(dir, testCodec, Now)
	must(t, err)
	defer s.Close()
	wantErr(t, s.Create(t.Context(), "zzzzzz"), unix.EROFS)
	// What runs broke can be read, under the lock, and so be put back.
	must(t, s.TryLock(testRun))
	if !s.Held(testRun) {
		t.Error("the lock is not held")
	}
	if events, err := s.Events(t.Context(), testRun); err != nil || len(events) != 2 {
		t.Errorf("read %d events, %v", len(events), err)
	}
	path := filepath.Join(dir, "open/abc234.jsonl")
	err = s.Append(t.Context(), sample(1))
	if want := fmt.Sprintf("append sample to journal %s: read-only file system", path); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	wantErr(t, s.Finish(testRun), unix.EROFS)
	if s.Held(testRun) {
		t.Error("the lock is held still")
	}

	_, err = New(filepath.Join(dir, "none"), testCodec, Now)
	wantErr(t, err, unix.EROFS)
}

func BenchmarkAppend(b *testing.B) {
	for _, bench := range []struct {
		name string
		e    experiment.Event
	}{{"sample", sample(1)}, {"announce-fsync", announce(1)}} {
		b.Run(bench.name, func(b *testing.B) {
			s := created(b)
			b.ReportAllocs()
			for b.Loop() {
				must(b, s.Append(b.Context(), bench.e))
			}
		})
	}
}

func BenchmarkCreateFinish(b *testing.B) {
	s := newStore(b)
	for b.Loop() {
		must(b, s.Create(b.Context(), testRun))
		must(b, s.Finish(testRun))
		must(b, os.Remove(filepath.Join(s.Dir(), "done/abc234.jsonl")))
	}
}
