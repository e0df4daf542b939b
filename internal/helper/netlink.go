package helper

import (
	"encoding/binary"
	"fmt"
	"syscall"
)

// Exchange sends netlink messages and returns what the kernel answers. It has
// done so when the system call returns. A table that messages make with the
// flag owner is owned by the socket fd (Linux 5.12), and goes with it.
func Exchange(fd int, messages []byte) ([]byte, error) {
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

// BatchError is the kernel's refusal of one message.
type BatchError struct {
	Sequence uint32 // of the message's header
	Errno    syscall.Errno
}

func (e *BatchError) Error() string { return e.Errno.Error() }

// Unwrap lets errors.Is find the number.
func (e *BatchError) Unwrap() error { return e.Errno }

// Refusal returns the first error among what the kernel answered (struct nlmsgerr,
// netlink(7)), as a *BatchError.
func Refusal(answer []byte) error {
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
