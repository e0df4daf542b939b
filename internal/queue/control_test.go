package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"testing"
)

func TestMessages(t *testing.T) {
	t.Parallel()
	for _, body := range [][]byte{nil, []byte("x"), make([]byte, 1<<20)} {
		kind, got, err := receive(bytes.NewReader(message(askBatch, body)))
		if err != nil || kind != askBatch || !bytes.Equal(got, body) {
			t.Errorf("%d bytes: %q, %d bytes, %v", len(body), kind, len(got), err)
		}
	}
	if _, _, err := receive(bytes.NewReader([]byte{askBatch, 0xff, 0xff, 0xff, 0xff})); err == nil {
		t.Error("a message of 4 GiB is awaited")
	}
	if _, _, err := receive(bytes.NewReader(message(askBatch, []byte("cut"))[:6])); err == nil {
		t.Error("a message that is cut is taken")
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	o := Order{NFT: 3, Lanes: []Lane{{TAP: 0, Out: 1, Stamp: -1}, {TAP: 2, Out: -1, Stamp: -1}}}
	if err := o.resolve([]int{5, 6, 7, 9}); err != nil {
		t.Fatal(err)
	}
	if o.NFT != 9 || o.Lanes[0].TAP != 5 || o.Lanes[0].Out != 6 || o.Lanes[1].TAP != 7 || o.Lanes[1].Out != -1 {
		t.Errorf("%+v", o)
	}
	if err := (&Order{NFT: 1}).resolve([]int{5}); err == nil {
		t.Error("a file that is not there was found")
	}
}

// nlmsgerr is an answer of the kernel's.
func nlmsgerr(seq uint32, errno syscall.Errno) []byte {
	b := binary.NativeEndian.AppendUint32(nil, 20)
	b = binary.NativeEndian.AppendUint16(b, syscall.NLMSG_ERROR)
	b = binary.NativeEndian.AppendUint16(b, 0)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	return binary.NativeEndian.AppendUint32(b, uint32(-int32(errno)))
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	ok := nlmsgerr(1, 0)
	if err := refusal(ok); err != nil {
		t.Error(err)
	}
	err := refusal(append(ok, nlmsgerr(4, syscall.EEXIST)...))
	bad, is := errors.AsType[*BatchError](err)
	if !is || bad.Sequence != 4 || !errors.Is(err, os.ErrExist) {
		t.Errorf("%v", err)
	}
}

func FuzzRefusal(f *testing.F) {
	f.Add(nlmsgerr(4, syscall.EEXIST))
	f.Add([]byte{1, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, answer []byte) { _ = refusal(answer) })
}
