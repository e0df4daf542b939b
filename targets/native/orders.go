package native

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/op"
)

// orderPoll is how often the folder of orders is looked at where the kernel
// cannot tell of changes: a user may have 128 inotify instances.
const orderPoll = 20 * time.Millisecond

// orderBook is the orders that were left for a lab's containers: a fault is an
// order, see op.Keep.
type orderBook struct {
	lab  *Lab
	dir  *os.Root
	news *os.File              // inotify(7); nil where there is none
	of   map[string]*container // by the order's name: who has it
}

// openOrders makes the folder of orders, and follows it until the lab rests.
// Whoever left one finds no folder then, and knows that nobody will heed it.
func (l *Lab) openOrders() error {
	path := l.dir(op.OrdersDir)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the folder of orders: %w", err)
	}
	dir, err := os.OpenRoot(path)
	if err != nil {
		return fmt.Errorf("open the folder of orders: %w", err)
	}
	b := &orderBook{lab: l, dir: dir, of: map[string]*container{}}
	l.book = b
	if fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err == nil {
		b.news = os.NewFile(uintptr(fd), "orders")
		if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MOVED_TO); err != nil {
			b.news.Close()
			b.news = nil
		}
	}
	l.work.Go(b.follow)
	return nil
}

// follow heeds what is left until the lab rests.
func (b *orderBook) follow() {
	defer b.dir.Close()
	defer b.close()
	woken := make(chan struct{}, 1)
	if b.news != nil {
		defer b.news.Close()
		b.lab.work.Go(func() { b.listen(woken) })
	}
	for {
		b.read()
		var poll <-chan time.Time
		if b.news == nil {
			poll = time.After(orderPoll)
		}
		select {
		case <-woken:
		case <-poll:
		case <-b.lab.alive.Done():
			return
		}
	}
}

// close takes the folder away, at once: nobody may find it without what they
// have left in it. What is in it goes with the lab's folder at the latest.
func (b *orderBook) close() {
	path := b.lab.dir(op.OrdersDir)
	if os.Rename(path, path+".gone") == nil {
		_ = os.RemoveAll(path + ".gone")
	}
}

// listen wakes follow when something was left, until it closes the file.
func (b *orderBook) listen(woken chan<- struct{}) {
	for buffer := make([]byte, 4096); ; {
		if _, err := b.news.Read(buffer); err != nil {
			return
		}
		select {
		case woken <- struct{}{}:
		default:
		}
	}
}

// read takes orders that are new, and takes back those that are to be.
func (b *orderBook) read() {
	dir, err := b.dir.Open(".")
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // some of them are better than none
	for _, file := range names {
		if name, ok := strings.CutSuffix(file, op.Ordered); ok && b.of[name] == nil {
			b.take(name)
		}
	}
	for _, file := range names {
		if name, ok := strings.CutSuffix(file, op.Back); ok {
			b.giveBack(name)
		}
	}
}

// take reads an order, and has its container heed it.
func (b *orderBook) take(name string) {
	data, err := b.dir.ReadFile(name + op.Ordered)
	if err != nil {
		return // it is to be taken back already
	}
	var o op.Order
	c := b.lab.byName[""]
	if err = json.Unmarshal(data, &o); err == nil {
		c = b.lab.byName[o.Container]
	}
	if c == nil {
		b.answer(name, op.Answer{Refused: "its lab has no such container"})
		return
	}
	b.of[name] = c
	c.order(name, o)
}

// giveBack has a container be as it was without an order.
func (b *orderBook) giveBack(name string) {
	if c := b.of[name]; c == nil || !c.forget(name) {
		b.remove(name)
		delete(b.of, name)
	}
}

// answer tells what was made of an order. Who waits for it finds it whole.
// While the lab rests there is nobody to be told: the folder goes.
func (b *orderBook) answer(name string, a op.Answer) {
	b.lab.gate.RLock()
	defer b.lab.gate.RUnlock()
	if b.lab.alive.Err() != nil {
		return
	}
	data, err := json.Marshal(a)
	if err == nil {
		err = b.dir.WriteFile(name+".now", data, 0o600)
	}
	if err == nil {
		_ = b.dir.Rename(name+".now", name+op.Answered) // nothing can be told to who waits: it gives up in time
	}
}

// remove tells that nothing is left of an order.
func (b *orderBook) remove(name string) {
	_ = b.dir.Remove(name + op.Answered)
	_ = b.dir.Remove(name + op.Back)
}
