package queue

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// What a parent asks. Each is a kind, a length of 4 bytes (big endian) and so
// many bytes; the answer has the same form.
const (
	askOrder = 'o' // an Order as JSON, once and first
	askBatch = 'b' // netlink messages for the socket that owns the table; the answer is the kernel's
	askStats = 's' // the answer is []Stats as JSON
	askEnd   = 'e' // take the rules away, send what is held, end

	answerOK    = 'k'
	answerError = 'x' // what follows is the error in words

	headSize   = 5        // bytes: kind and length
	maxMessage = 64 << 20 // bytes
	maxFiles   = 253      // SCM_MAX_FD of the kernel's include/net/scm.h
)

// flushTime is how long a helper that ends may take to send what it holds.
const flushTime = 20 * time.Millisecond

// Main is the helper's life. The result is an exit code.
func Main() int {
	harden()
	h := &helper{conn: os.NewFile(Control, "control")}
	defer h.end() // the parent has died, or both no longer understand each other
	for !h.ended {
		kind, body, err := h.receive()
		if err != nil {
			return 1
		}
		answer, err := h.do(kind, body)
		kind = answerOK
		if err != nil {
			kind, answer = answerError, []byte(err.Error())
		}
		if err := send(h.conn, kind, answer); err != nil {
			return 1
		}
	}
	return 0
}

// receive reads a request. Files come with the first.
func (h *helper) receive() (kind byte, body []byte, err error) {
	if h.plane != nil {
		return receive(h.conn)
	}
	oob := make([]byte, syscall.CmsgSpace(4*maxFiles))
	head := make([]byte, headSize)
	n, oobn, _, _, err := syscall.Recvmsg(Control, head, oob, syscall.MSG_CMSG_CLOEXEC)
	if err != nil {
		return 0, nil, err
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, nil, err
	}
	for i := range messages {
		files, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			return 0, nil, err
		}
		h.files = append(h.files, files...)
	}
	return receive(io.MultiReader(bytes.NewReader(head[:n]), h.conn))
}

// harden leaves the helper to its parent: a terminal's signals do not end it.
// It is the first to go where memory is short, since traffic flows then.
func harden() {
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGUSR1, syscall.SIGUSR2)
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	debug.SetGCPercent(-1) // what is allocated per packet is nothing; Stats and batches may bring it on
	debug.SetMemoryLimit(64 << 20)
	hasten()
}

const schedRR = 2 // SCHED_RR of sched(7)

// hasten makes timers exact (timerslack_ns of proc_pid_timerslack_ns(5)), and
// this process go before others where it may. Both belong to a thread, and are
// inherited by those that it makes later. Sessions share the processors where
// the kernel groups them (autogroup, sched(7)).
func hasten() {
	threads, _ := os.ReadDir("/proc/self/task")
	for _, t := range threads {
		tid, _ := strconv.Atoi(t.Name())
		_ = os.WriteFile("/proc/"+t.Name()+"/timerslack_ns", []byte("1"), 0)
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, tid, -20)
		priority := int32(1)
		_, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, uintptr(tid), schedRR, uintptr(unsafe.Pointer(&priority)))
	}
	_ = os.WriteFile("/proc/self/autogroup", []byte("-20"), 0)
}

// helper is what the requests are about.
type helper struct {
	conn  *os.File
	files []int // that came with the order
	nft   int
	wake  int
	plane *plane
	done  chan struct{} // closed once the plane has come to its end
	ended bool
}

func (h *helper) do(kind byte, body []byte) ([]byte, error) {
	if h.plane == nil && kind != askOrder {
		return nil, errors.New("it has no order yet")
	}
	switch kind {
	case askOrder:
		return nil, h.begin(body)
	case askBatch:
		return exchange(h.nft, body)
	case askStats:
		var list []Stats
		if err := h.ask(func() { list = h.plane.stats() }); err != nil {
			return nil, err
		}
		return json.Marshal(list)
	case askEnd:
		h.end()
		return nil, nil
	}
	return nil, fmt.Errorf("unknown request %q", kind)
}

// begin starts the plane.
func (h *helper) begin(body []byte) error {
	var o Order
	if err := json.Unmarshal(body, &o); err != nil {
		return err
	}
	if err := o.resolve(h.files); err != nil {
		return err
	}
	wake, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errno != 0 {
		return fmt.Errorf("make an eventfd: %w", errno)
	}
	p, err := newPlane(o, int(wake))
	if err != nil {
		return err
	}
	h.nft, h.wake, h.plane, h.done = o.NFT, int(wake), p, make(chan struct{})
	go func() {
		defer close(h.done)
		p.run()
	}()
	if o.Network != 0 {
		go watch(o.Network)
	}
	return nil
}

// resolve puts numbers of file descriptors where o names files.
func (o *Order) resolve(files []int) error {
	names := []*int{&o.NFT}
	for i := range o.Lanes {
		names = append(names, &o.Lanes[i].TAP)
		for _, file := range []*int{&o.Lanes[i].Out, &o.Lanes[i].Stamp} {
			if *file >= 0 {
				names = append(names, file)
			}
		}
	}
	for _, n := range names {
		if *n < 0 || *n >= len(files) {
			return fmt.Errorf("the order names file %d of %d", *n, len(files))
		}
		*n = files[*n]
	}
	return nil
}

// ask runs fn in the plane's goroutine, between two packets.
func (h *helper) ask(fn func()) error {
	ran := make(chan struct{})
	h.plane.asked <- func() { fn(); close(ran) }
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = syscall.Write(h.wake, one[:])
	select {
	case <-ran:
		return nil
	case <-h.done:
		return errors.New("it has ended")
	case <-time.After(time.Second):
		return errors.New("packets are stuck for a second")
	}
}

// end takes the rules away first: from then on packets go their own way, and
// those that are here are sent after them.
func (h *helper) end() {
	if h.plane == nil || h.ended {
		return
	}
	h.ended = true
	_ = syscall.Close(h.nft)
	_ = h.ask(func() { h.plane.finish(flushTime) })
}

// exchange sends netlink messages and returns what the kernel answers. It has
// done so when the system call returns.
func exchange(fd int, messages []byte) ([]byte, error) {
	for _, option := range []int{syscall.SO_SNDBUF, syscall.SO_SNDBUFFORCE} { // a batch must fit as a whole
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, option, 2*len(messages)+1<<16)
	}
	if err := syscall.Sendto(fd, messages, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("send rules: %w", err)
	}
	var answer []byte
	b := make([]byte, 1<<16)
	for {
		n, _, err := syscall.Recvfrom(fd, b, syscall.MSG_DONTWAIT)
		switch err {
		case nil:
			answer = append(answer, b[:n]...)
		case syscall.EINTR:
		case syscall.EAGAIN:
			return answer, nil
		default:
			return nil, fmt.Errorf("read the kernel's answer: %w", err)
		}
	}
}

func receive(r io.Reader) (kind byte, body []byte, err error) {
	var head [headSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxMessage {
		return 0, nil, fmt.Errorf("a message of %d bytes", n)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return head[0], body, err
}

func send(w io.Writer, kind byte, body []byte) error {
	_, err := w.Write(message(kind, body))
	return err
}

func message(kind byte, body []byte) []byte {
	b := append(make([]byte, 0, headSize+len(body)), kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}
