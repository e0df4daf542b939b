package exhaust

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/simianhq/simian/internal/helper"
)

// Connections is how many connections are held to an address. The helper runs
// in the target's network namespace.
type Connections struct {
	To    netip.AddrPort `json:"to"`
	Count int            `json:"count"`
}

// holder is the work of BeginConnections.
type holder struct {
	Connections
	mu      sync.Mutex
	open    []connection
	over    bool
	closed  int // by the far end
	refused int
	fail    error
}

type connection struct {
	fd   int
	done bool // it is established
}

// BeginConnections implements helper.Begin. The first file is a pidfd of the
// target.
func BeginConnections(args json.RawMessage, files []int) (helper.Work, error) {
	h := &holder{}
	if err := json.Unmarshal(args, &h.Connections); err != nil {
		return nil, err
	}
	if len(files) != 1 || h.Count <= 0 || !h.To.IsValid() {
		return nil, errors.New("an order that can't be met")
	}
	helper.EndWith(files[0])
	h.step()
	if h.established() == 0 && h.fail != nil {
		return nil, h.fail
	}
	go h.hold()
	return h, nil
}

func (h *holder) hold() {
	for h.step() {
		time.Sleep(again)
	}
}

// step looks at what is open, and opens what is missing.
func (h *holder) step() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return false
	}
	h.look()
	h.refused, h.fail = 0, nil
	for len(h.open) < h.Count {
		c, err := h.connect()
		if errors.Is(err, syscall.ECONNREFUSED) {
			h.refused++
		}
		if err != nil { // it is tried again at the next step
			h.fail = fmt.Errorf("connect to %s: %w", h.To, err)
			break
		}
		h.open = append(h.open, c)
	}
	return true
}

// connect begins a connection. It is reset when it is closed, so that nothing
// of it is left.
func (h *holder) connect() (connection, error) {
	family, to := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Addr: h.To.Addr().As16(), Port: int(h.To.Port())})
	if h.To.Addr().Is4() {
		family, to = syscall.AF_INET, &syscall.SockaddrInet4{Addr: h.To.Addr().As4(), Port: int(h.To.Port())}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return connection{}, err
	}
	_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	err = syscall.Connect(fd, to)
	if err != nil && err != syscall.EINPROGRESS {
		_ = syscall.Close(fd)
		return connection{}, err
	}
	return connection{fd: fd, done: err == nil}, nil
}

// pollfd is struct pollfd of poll(2).
type pollfd struct {
	fd      int32
	events  int16
	revents int16
}

const (
	pollOut   = 0x4
	pollErr   = 0x8
	pollHup   = 0x10
	pollRdHup = 0x2000
)

// look drops what the far end has closed, and sees what is established.
func (h *holder) look() {
	if len(h.open) == 0 {
		return
	}
	list := make([]pollfd, len(h.open))
	for i, c := range h.open {
		list[i] = pollfd{fd: int32(c.fd), events: pollRdHup}
		if !c.done {
			list[i].events |= pollOut
		}
	}
	var now syscall.Timespec
	_, _, _ = syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&list[0])), uintptr(len(list)), uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	kept := h.open[:0]
	for i, c := range h.open {
		if list[i].revents&(pollErr|pollHup|pollRdHup) != 0 {
			_ = syscall.Close(c.fd)
			if c.done {
				h.closed++
			}
			continue
		}
		c.done = c.done || list[i].revents&pollOut != 0
		kept = append(kept, c)
	}
	h.open = kept
}

func (h *holder) established() (n int) {
	for _, c := range h.open {
		if c.done {
			n++
		}
	}
	return n
}

// Report implements helper.Work.
func (h *holder) Report() (any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over {
		h.look()
	}
	held := h.established()
	waiting := len(h.open) - held
	queued := queueOf(h.To)
	r := helper.Report{Felt: "no", What: fmt.Sprintf("%d of %d connections held to %s", held, h.Count, h.To)}
	if queued > 0 {
		r.Felt = "yes"
		r.What += fmt.Sprintf(", %d not accepted yet", queued)
	}
	if waiting > 0 {
		r.Felt = "yes"
		r.What += fmt.Sprintf("; %d more get no answer: its backlog is full", waiting)
	}
	if h.closed > 0 {
		r.Felt = "yes"
		r.What += fmt.Sprintf("; it has closed %d, which were opened again", h.closed)
	}
	if h.fail != nil {
		r.Failed, r.Hint = held == 0, h.fail.Error()
	} else if r.Felt == "no" {
		r.Hint = "it has accepted all of them: hold more"
	}
	return r, nil
}

// End implements helper.Work.
func (h *holder) End() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	for _, c := range h.open {
		_ = syscall.Close(c.fd)
	}
	h.open = nil
}
