package service

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// largestAnswer is how much of another service's answer is read, in bytes.
const largestAnswer = 16 << 20

// A StatusError says that another service answered, with an error.
type StatusError struct {
	Status int
	Body   string // its beginning
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Body) }

// NewClient returns a client for one other service. Deadlines come with each
// request's context.
func NewClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 100,
		IdleConnTimeout:     30 * time.Second,
	}}
}

// Get asks for url, and decodes its answer.
func Get(ctx context.Context, c *http.Client, url string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	return do(c, req, answer)
}

// Post sends body as JSON, and decodes the answer. The key tells the other side
// that a request is the same as one before, so that it may be sent twice.
func Post(ctx context.Context, c *http.Client, url, key string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key) // net/http sends such a POST again when a connection it kept breaks
	return do(c, req, answer)
}

func do(c *http.Client, req *http.Request, answer any) error {
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, largestAnswer)) // to its end, so that the connection is kept
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode >= 400 {
		return &StatusError{Status: resp.StatusCode, Body: string(body[:min(len(body), 200)])}
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("decode the answer: %w", err)
	}
	return nil
}

// CheckHealth returns nil if url answers with 200 within 2 s. It is for a
// container's health check, where the image has no program but this one.
func CheckHealth(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d", url, resp.StatusCode)
	}
	return nil
}
