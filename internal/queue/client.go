package queue

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// Client talks to a helper on the parent's end of its control socket. The
// helper ends when that is closed.
type Client struct {
	mu   sync.Mutex
	conn *os.File
}

// patience is how long a helper may take to answer.
const patience = 5 * time.Second

// NewClient returns the client that talks on conn, a socket that does not
// block, once the helper has taken its order and its files.
func NewClient(conn *os.File, o Order, files []int) (*Client, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	if len(files) > maxFiles {
		return nil, fmt.Errorf("a helper can take %d files, not %d", maxFiles, len(files))
	}
	c := &Client{conn: conn}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if err := sendFiles(conn, message(askOrder, body), files); err != nil {
		return nil, fmt.Errorf("send the order: %w", err)
	}
	if _, err := c.answer(); err != nil {
		return nil, err
	}
	return c, nil
}

// sendFiles sends a message that is short enough for the socket, with files.
func sendFiles(conn *os.File, b []byte, files []int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	bad := raw.Write(func(fd uintptr) bool {
		n, now := syscall.SendmsgN(int(fd), b, syscall.UnixRights(files...), nil, syscall.MSG_NOSIGNAL)
		if err = now; err == nil && n < len(b) {
			err = syscall.EMSGSIZE
		}
		return err != syscall.EAGAIN
	})
	return errors.Join(bad, err)
}

// Stats returns what became of the packets of each lane.
func (c *Client) Stats() ([]Stats, error) {
	answer, err := c.ask(askStats, nil)
	if err != nil {
		return nil, err
	}
	var list []Stats
	return list, json.Unmarshal(answer, &list)
}

// End makes the helper take its rules away, send what it holds, and end.
func (c *Client) End() error {
	_, err := c.ask(askEnd, nil)
	return err
}

// Batch sends netlink messages from the socket that owns the table. The first
// error of the kernel's is returned as a *BatchError.
func (c *Client) Batch(messages []byte) error {
	answer, err := c.ask(askBatch, messages)
	if err != nil {
		return err
	}
	return refusal(answer)
}

// BatchError is the kernel's refusal of one message.
type BatchError struct {
	Sequence uint32 // of the message's header
	Errno    syscall.Errno
}

func (e *BatchError) Error() string { return e.Errno.Error() }

// Unwrap lets errors.Is find the number.
func (e *BatchError) Unwrap() error { return e.Errno }

// refusal finds an error among netlink messages (struct nlmsgerr, netlink(7)).
func refusal(answer []byte) error {
	for len(answer) >= syscall.SizeofNlMsghdr {
		n := int(binary.NativeEndian.Uint32(answer))
		if n < syscall.SizeofNlMsghdr || n > len(answer) {
			return fmt.Errorf("the kernel's answer is cut: %d bytes of %d", len(answer), n)
		}
		kind := binary.NativeEndian.Uint16(answer[4:])
		if body := answer[syscall.SizeofNlMsghdr:n]; kind == syscall.NLMSG_ERROR && len(body) >= 4 {
			if errno := -int32(binary.NativeEndian.Uint32(body)); errno != 0 {
				return &BatchError{binary.NativeEndian.Uint32(answer[8:]), syscall.Errno(errno)}
			}
		}
		answer = answer[min((n+3)&^3, len(answer)):]
	}
	return nil
}

func (c *Client) ask(kind byte, body []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	if err := send(c.conn, kind, body); err != nil {
		return nil, fmt.Errorf("ask the helper: %w", err)
	}
	return c.answer()
}

func (c *Client) answer() ([]byte, error) {
	kind, answer, err := receive(c.conn)
	switch {
	case err != nil:
		return nil, fmt.Errorf("hear from the helper: %w", err)
	case kind == answerError:
		return nil, fmt.Errorf("the helper says: %s", answer)
	}
	return answer, nil
}
