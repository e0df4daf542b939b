package helper

import (
	"bytes"
	"testing"
)

func TestMessages(t *testing.T) {
	t.Parallel()
	for _, body := range [][]byte{nil, []byte("x"), make([]byte, 1<<20)} {
		kind, got, err := receive(bytes.NewReader(message(askCall, body)))
		if err != nil || kind != askCall || !bytes.Equal(got, body) {
			t.Errorf("%d bytes: %q, %d bytes, %v", len(body), kind, len(got), err)
		}
	}
	if _, _, err := receive(bytes.NewReader([]byte{askCall, 0xff, 0xff, 0xff, 0xff})); err == nil {
		t.Error("a message of 4 GiB is awaited")
	}
	if _, _, err := receive(bytes.NewReader(message(askCall, []byte("cut"))[:6])); err == nil {
		t.Error("a message that is cut is taken")
	}
}
