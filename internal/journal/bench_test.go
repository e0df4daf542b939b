package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

const million = 1_000_000

// benchDir is removed when all tests are done.
var benchDir string

// millionEvents is a state directory with a journal of that many events,
// mostly samples, made once.
var millionEvents = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "simian-journal-bench-")
	if err != nil {
		return "", err
	}
	benchDir = dir
	if err := os.Mkdir(filepath.Join(dir, "done"), 0o700); err != nil {
		return "", err
	}
	clock := ticks()
	var out bytes.Buffer
	for i := range million {
		e := sample(i)
		switch {
		case i == 0:
			e = begin()
		case i%1000 == 0:
			e = announce(i)
		}
		e.Wall, e.Boot = clock()
		e.Wall = e.Wall.Add(time.Duration(i) * 377)
		line, err := testCodec.Marshal(&e)
		if err != nil {
			return "", err
		}
		out.Write(append(line, '\n'))
	}
	return dir, os.WriteFile(filepath.Join(dir, "done", fileName(testRun)), out.Bytes(), 0o600)
})

func BenchmarkEach1M(b *testing.B) {
	dir, err := millionEvents()
	must(b, err)
	s, err := NewReader(dir, testCodec)
	must(b, err)
	info, err := s.Stat(testRun)
	must(b, err)
	b.SetBytes(info.Size)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		must(b, s.Each(b.Context(), testRun, func(e *experiment.Event) error { n++; return nil }))
		if n != million {
			b.Fatalf("read %d events", n)
		}
	}
}

func BenchmarkEvents1M(b *testing.B) {
	dir, err := millionEvents()
	must(b, err)
	s, err := NewReader(dir, testCodec)
	must(b, err)
	b.ReportAllocs()
	for b.Loop() {
		events, err := s.Events(b.Context(), testRun)
		must(b, err)
		if len(events) != million {
			b.Fatalf("read %d events", len(events))
		}
	}
}
