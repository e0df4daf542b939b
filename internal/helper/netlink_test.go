package helper

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"testing"
)

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
	if err := Refusal(ok); err != nil {
		t.Error(err)
	}
	err := Refusal(append(ok, nlmsgerr(4, syscall.EEXIST)...))
	bad, is := errors.AsType[*BatchError](err)
	if !is || bad.Sequence != 4 || !errors.Is(err, os.ErrExist) {
		t.Errorf("%v", err)
	}
}

func FuzzRefusal(f *testing.F) {
	f.Add(nlmsgerr(4, syscall.EEXIST))
	f.Add([]byte{1, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, answer []byte) { _ = Refusal(answer) })
}
