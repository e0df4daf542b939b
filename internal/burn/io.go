package burn

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/simianhq/simian/internal/helper"
)

// IO is what is read and written, and how quickly.
type IO struct {
	Read      bool    `json:"read,omitzero"`
	Write     bool    `json:"write,omitzero"`
	Sync      bool    `json:"sync,omitzero"`   // each write waits for the disk (fdatasync(2))
	Random    bool    `json:"random,omitzero"` // else from the first byte to the last, and again
	Block     int     `json:"block"`           // bytes of each operation, a multiple of 4096
	File      int64   `json:"file"`            // bytes of the file, a multiple of Block
	PerSecond float64 `json:"perSecond"`       // operations; 0 is as many as the disk does
	Workers   int     `json:"workers"`         // operations under way at a time
}

const ioLag = 100 * time.Millisecond

// churn is the work of BeginIO.
type churn struct {
	IO
	fd     int
	direct bool         // it was opened with O_DIRECT: nothing comes from the page cache
	began  atomic.Int64 // clockMonotonic; 0 while the file is made
	tokens chan struct{}
	ops    [2]atomic.Int64 // read, written
	next   atomic.Int64
	over   atomic.Bool
	fail   atomic.Pointer[string]
}

// BeginIO implements helper.Begin. The first file is a pidfd of the target, the
// second the one that is read and written: it has File bytes.
func BeginIO(args json.RawMessage, files []int) (helper.Work, error) {
	c := &churn{}
	if err := json.Unmarshal(args, &c.IO); err != nil {
		return nil, err
	}
	if len(files) != 2 || c.Block <= 0 || c.File < int64(c.Block) || c.Workers < 1 {
		return nil, errors.New("an order that can't be met")
	}
	c.fd, c.tokens = files[1], make(chan struct{})
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(c.fd), syscall.F_GETFL, 0)
	if errno != 0 {
		return nil, fmt.Errorf("look at the file: %w", errno)
	}
	c.direct = flags&syscall.O_DIRECT != 0
	helper.EndWith(files[0])
	go c.run()
	return c, nil
}

// run makes what is to be read, and starts the workers.
func (c *churn) run() {
	if c.Read { // space that was never written is read without the disk
		if err := c.prepare(); err != nil {
			c.failed(err)
			return
		}
	}
	c.began.Store(clock(clockMonotonic))
	for range c.Workers {
		go c.work()
	}
	c.pace()
}

// prepare writes the whole file once.
func (c *churn) prepare() error {
	const most = 1 << 20
	b, err := aligned(most)
	if err != nil {
		return err
	}
	fill(b)
	for at := int64(0); at < c.File && !c.over.Load(); at += most {
		if _, err := syscall.Pwrite(c.fd, b[:min(most, c.File-at)], at); err != nil {
			return wrap("write what is to be read", err)
		}
	}
	return wrap("write what is to be read", syscall.Fdatasync(c.fd))
}

// fill puts in what no file system can make little of.
func fill(b []byte) {
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
}

// pace lets operations go at their rate.
func (c *churn) pace() {
	rate := newBudget(c.PerSecond, max(ioLag, time.Duration(2e9/max(c.PerSecond, 1e-3))))
	for !c.over.Load() {
		c.tokens <- struct{}{}
		if c.PerSecond == 0 {
			continue
		}
		for wait := rate.spend(1); wait > 0 && !c.over.Load(); wait = rate.spend(0) {
			time.Sleep(min(wait, 50*time.Millisecond))
		}
	}
}

// work does one operation after the other.
func (c *churn) work() {
	buffer, err := aligned(c.Block)
	if err != nil {
		c.failed(err)
		return
	}
	fill(buffer)
	for range c.tokens {
		if c.over.Load() {
			return
		}
		write := c.Write && (!c.Read || c.next.Load()%2 == 1)
		if err := c.do(buffer, write); err != nil {
			c.failed(err)
			return
		}
	}
}

func (c *churn) failed(err error) {
	text := err.Error()
	c.fail.Store(&text)
}

// aligned returns memory that O_DIRECT takes.
func aligned(n int) ([]byte, error) {
	return syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
}

// do reads or writes one block.
func (c *churn) do(b []byte, write bool) (err error) {
	blocks := c.File / int64(c.Block)
	at := (c.next.Add(1) - 1) % blocks
	if c.Random {
		at = rand.Int64N(blocks)
	}
	at *= int64(c.Block)
	if !write {
		if !c.direct { // else the page cache answers
			_, _, _ = syscall.Syscall6(syscall.SYS_FADVISE64, uintptr(c.fd), uintptr(at), uintptr(len(b)), fadviseDontNeed, 0, 0)
		}
		_, err = syscall.Pread(c.fd, b, at)
		if err == nil {
			c.ops[0].Add(1)
		}
		return wrap("read", err)
	}
	*(*int64)(unsafe.Pointer(&b[0])) = c.next.Load()
	if _, err = syscall.Pwrite(c.fd, b, at); err == nil && c.Sync {
		err = syscall.Fdatasync(c.fd)
	}
	if err == nil {
		c.ops[1].Add(1)
	}
	return wrap("write", err)
}

const fadviseDontNeed = 4 // POSIX_FADV_DONTNEED of posix_fadvise(2)

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Report implements helper.Work.
func (c *churn) Report() (any, error) {
	began := c.began.Load()
	wall := float64(clock(clockMonotonic)-began) / 1e9
	n := [2]float64{float64(c.ops[0].Load()), float64(c.ops[1].Load())}
	r := helper.Report{Felt: "yes", What: "nothing read or written yet"}
	what := ""
	for i, word := range []string{"read", "written"} {
		if n[i] > 0 {
			what += fmt.Sprintf(", %s %.2f MiB/s in %.1f operations/s", word, n[i]*float64(c.Block)/(1<<20)/wall, n[i]/wall)
		}
	}
	if what != "" {
		r.What = what[2:]
	} else {
		r.Felt = "nothing"
	}
	if got := (n[0] + n[1]) / wall; wall > 1 && got < 0.9*c.PerSecond {
		r.Hint = fmt.Sprintf("%.1f operations/s were asked for: the disk, or the target's own limit, gives no more", c.PerSecond)
	}
	if began == 0 {
		r = helper.Report{What: fmt.Sprintf("writing the %d MiB that are to be read", c.File>>20)}
	}
	if why := c.fail.Load(); why != nil {
		r.Failed, r.Hint = true, *why
	}
	return r, nil
}

// End implements helper.Work.
func (c *churn) End() { c.over.Store(true) }
