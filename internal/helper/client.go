package helper

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
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
// block, once the helper has begun what args tell it.
func NewClient(conn *os.File, args json.RawMessage, files []int) (*Client, error) {
	if len(files) > maxFiles {
		return nil, fmt.Errorf("a helper can take %d files, not %d", maxFiles, len(files))
	}
	c := &Client{conn: conn}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if err := sendFiles(conn, message(askBegin, args), files); err != nil {
		return nil, fmt.Errorf("tell the helper what to do: %w", err)
	}
	if _, err := c.answer(); err != nil {
		return nil, err
	}
	return c, nil
}

// Report reads what became of the work into v.
func (c *Client) Report(v any) error {
	answer, err := c.ask(askReport, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, v)
}

// Call asks what only work that is a Caller can answer.
func (c *Client) Call(body []byte) ([]byte, error) { return c.ask(askCall, body) }

// End makes the helper come to an end of its work, and exit.
func (c *Client) End() error {
	_, err := c.ask(askEnd, nil)
	return err
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
