package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/simianhq/simian/experiment"
)

// DamageError says that lines of a journal could not be read. All others
// were.
type DamageError struct {
	Path  string
	Line  int   // the first damaged one, from 1
	Lines int   // how many are damaged
	Err   error // what is wrong with the first
}

// Error implements error.
func (e *DamageError) Error() string {
	more := ""
	if e.Lines > 1 {
		more = fmt.Sprintf(" (and %d more)", e.Lines-1)
	}
	return fmt.Sprintf("read journal %s: line %d is damaged%s: %v; all other lines were read", e.Path, e.Line, more, e.Err)
}

// Unwrap returns what is wrong with the first damaged line.
func (e *DamageError) Unwrap() error { return e.Err }

// Events returns what the journal of run holds, open or done, oldest first.
// It reads as Each does: with a DamageError come all events that can be read.
// No event and no error mean that the run's first line was cut: nothing was
// changed.
func (s *Store) Events(ctx context.Context, run experiment.RunID) ([]experiment.Event, error) {
	info, err := s.Stat(run)
	if err != nil {
		return nil, err
	}
	events := make([]experiment.Event, 0, info.Size/lineSize+1)
	err = s.Each(ctx, run, func(e *experiment.Event) error {
		events = append(events, *e)
		return nil
	})
	return events, err
}

// lineSize is somewhat less than a line with a sample has, in bytes.
const lineSize = 128

// Each calls fn with each event of run's journal, open or done, oldest first,
// and stops at its first error. The event is fn's until it returns; what the
// event points to is fn's to keep.
//
// A last line that was cut, without its newline or no JSON, is ignored. Other
// lines that cannot be read are left out, and Each ends with a DamageError. A
// journal of a newer format is refused before fn is called. Kinds and fields
// that a later version has added are read over.
func (s *Store) Each(ctx context.Context, run experiment.RunID, fn func(*experiment.Event) error) error {
	f, _, err := s.find(run)
	if err != nil {
		return err
	}
	defer f.Close()
	c := &consumer{run: run, fn: fn, damage: DamageError{Path: f.Name()}}
	if err := eachBlock(ctx, f, s.codec, c.block); err != nil {
		return err
	}
	return c.err()
}

// consumer hands events on in their order, and keeps the first damage.
type consumer struct {
	run    experiment.RunID
	fn     func(*experiment.Event) error
	line   int // how many lines were read
	damage DamageError
	cut    *badLine // damage that is none if no line follows
}

func (c *consumer) block(b *block) error {
	if c.line == 0 && b.lines > 0 {
		if err := c.header(b); err != nil {
			return err
		}
	}
	for i := range b.bad {
		c.bad(b.bad[i])
	}
	for i := range b.events {
		b.events[i].Run = c.run
		if err := c.fn(&b.events[i]); err != nil {
			return err
		}
	}
	c.line += b.lines
	return nil
}

// header refuses a newer format. A header without which the rest can be read
// is damage.
func (c *consumer) header(b *block) error {
	if len(b.bad) > 0 && b.bad[0].line == 0 {
		if b.bad[0].newer == nil {
			return nil
		}
		return fmt.Errorf("read journal %s: %w", c.damage.Path, b.bad[0].newer)
	}
	if len(b.events) == 0 {
		return nil
	}
	h := b.events[0].Header
	if h == nil {
		b.bad = slices.Insert(b.bad, 0, badLine{err: h.CheckHeader("")})
		return nil
	}
	if err := h.CheckHeader(h.Machine); err != nil {
		return fmt.Errorf("read journal %s: %w", c.damage.Path, err)
	}
	return nil
}

func (c *consumer) bad(bad badLine) {
	c.settle()
	bad.line += c.line + 1
	c.cut = &bad
}

// settle counts the damage that was held back, now that a line follows it.
func (c *consumer) settle() {
	if c.cut == nil {
		return
	}
	if c.damage.Lines == 0 {
		c.damage.Line, c.damage.Err = c.cut.line, c.cut.err
	}
	c.damage.Lines++
	c.cut = nil
}

func (c *consumer) err() error {
	if c.cut != nil && (c.cut.line < c.line || !c.cut.noJSON) {
		c.settle()
	}
	if c.damage.Lines == 0 {
		return nil
	}
	return &c.damage
}

// block is some whole lines of a journal, and what was read from them.
type block struct {
	data   []byte
	events []experiment.Event
	bad    []badLine
	lines  int
	ready  chan struct{} // one token: the lines are decoded
}

// badLine is a line that could not be read.
type badLine struct {
	line   int // in its block, from 0; then in the journal, from 1
	err    error
	noJSON bool  // as a write that was cut leaves it
	newer  error // it is the header of a format that is not known
}

// eachBlock reads r in blocks, has them decoded side by side, and calls fn
// with each in order.
//
//	split ─todo▶ decode ×n ─ready▶ fn ─free▶ split
//	  └────────────order───────────▶┘
func eachBlock(ctx context.Context, r io.Reader, codec experiment.Codec, fn func(*block) error) error {
	ctx, cancel := context.WithCancel(ctx)
	workers := max(2, min(4, runtime.GOMAXPROCS(0)))
	p := &pipeline{
		todo:  make(chan *block, 2*workers),
		order: make(chan *block, 2*workers),
		free:  make(chan *block, 2*workers),
	}
	for range 2 * workers {
		p.free <- &block{ready: make(chan struct{}, 1)}
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for range workers {
		all.Go(func() { p.decode(codec.Decoder()) })
	}
	all.Go(func() { p.split(ctx, r) })
	for b := range p.order {
		<-b.ready
		if err := fn(b); err != nil {
			return err
		}
		p.free <- b
	}
	return p.err
}

// pipeline has room in each channel for every block, so only waiting for a
// free one blocks.
type pipeline struct {
	todo, order, free chan *block
	err               error // of split; valid once order is closed
}

func (p *pipeline) split(ctx context.Context, r io.Reader) {
	defer close(p.order)
	defer close(p.todo)
	s := splitter{r: r}
	for more := true; more; {
		var b *block
		select {
		case b = <-p.free:
		case <-ctx.Done():
			p.err = ctx.Err()
			return
		}
		if more, p.err = s.next(b); p.err != nil {
			return
		}
		p.todo <- b
		p.order <- b
	}
}

func (p *pipeline) decode(decode func([]byte, *experiment.Event) error) {
	for b := range p.todo {
		b.decode(decode)
		b.ready <- struct{}{}
	}
}

// blockSize is how much is read at once, in bytes.
const blockSize = 256 << 10

// splitter reads blocks of whole lines.
type splitter struct {
	r    io.Reader
	rest []byte // the beginning of the next block
}

// next fills b, and tells whether there is more.
func (s *splitter) next(b *block) (more bool, err error) {
	b.data = append(b.data[:0], s.rest...)
	for {
		start := len(b.data)
		b.data = slices.Grow(b.data, blockSize)
		n, err := io.ReadFull(s.r, b.data[start:start+blockSize])
		b.data = b.data[:start+n]
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read journal: %w", err)
		}
		if end := bytes.LastIndexByte(b.data[start:], '\n'); end >= 0 {
			s.rest = append(s.rest[:0], b.data[start+end+1:]...)
			b.data = b.data[:start+end+1]
			return true, nil
		}
		if len(b.data) > maxLine {
			b.data = append(b.data[:0], 0) // stands for it: no JSON has this byte
		}
	}
}

// decode reads the lines of b. Their memory is used again for the next block,
// but for what the events point to.
func (b *block) decode(decode func([]byte, *experiment.Event) error) {
	b.events, b.bad, b.lines = b.events[:0], b.bad[:0], 0
	for rest := b.data; len(rest) > 0; b.lines++ {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		rest = after
		if !whole {
			b.bad = append(b.bad, badLine{line: b.lines, err: errors.New("its end is missing"), noJSON: true})
			continue
		}
		b.events = append(b.events, experiment.Event{})
		e := &b.events[len(b.events)-1]
		err := decode(line, e)
		if err == nil && e.Kind == "" {
			err = errors.New("it is no event")
		}
		if err != nil {
			b.events = b.events[:len(b.events)-1]
			b.bad = append(b.bad, badLine{b.lines, err, !jsontext.Value(line).IsValid(jsontext.AllowInvalidUTF8(true)), newerFormat(line)})
		}
	}
}

// newerFormat tells whether a line that could not be read is the header of a
// format that is not known yet.
func newerFormat(line []byte) error {
	var first struct {
		Header struct {
			Format int `json:"format"`
		} `json:"header"`
	}
	if json.Unmarshal(line, &first) != nil || first.Header.Format <= experiment.JournalFormat {
		return nil
	}
	return (&experiment.Header{Format: first.Header.Format}).CheckHeader("")
}
