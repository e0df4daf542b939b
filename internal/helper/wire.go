package helper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// What a parent asks. Each is a kind, a length of 4 bytes (big endian) and so
// many bytes; the answer has the same form.
const (
	askBegin  = 'b' // what to do, once and first; files come with it
	askReport = 'r' // the answer is what Work.Report gives, as JSON
	askCall   = 'c' // for Caller
	askEnd    = 'e'

	answerOK    = 'k'
	answerError = 'x' // what follows is the error in words

	headSize   = 5        // bytes: kind and length
	maxMessage = 64 << 20 // bytes
	maxFiles   = 253      // SCM_MAX_FD of the kernel's include/net/scm.h
)

var (
	errNotBegun = errors.New("it was not told yet what to do")
	errUnknown  = errors.New("it can't do that")
)

// receiveFiles reads the first request, with which files come.
func receiveFiles() (kind byte, body []byte, files []int, err error) {
	oob := make([]byte, syscall.CmsgSpace(4*maxFiles))
	head := make([]byte, headSize)
	n, oobn, _, _, err := syscall.Recvmsg(Control, head, oob, syscall.MSG_CMSG_CLOEXEC)
	if err != nil {
		return 0, nil, nil, err
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, nil, nil, err
	}
	for i := range messages {
		more, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			return 0, nil, nil, err
		}
		files = append(files, more...)
	}
	kind, body, err = receive(io.MultiReader(bytes.NewReader(head[:n]), socket{}))
	return kind, body, files, err
}

// socket reads from Control.
type socket struct{}

func (socket) Read(b []byte) (int, error) {
	n, err := syscall.Read(Control, b)
	if err == nil && n == 0 && len(b) > 0 {
		err = io.EOF
	}
	return max(n, 0), err
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

// sendFiles sends a message that is short enough for the socket, with files.
func sendFiles(conn *os.File, b []byte, files []int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var rights []byte
	if len(files) > 0 {
		rights = syscall.UnixRights(files...)
	}
	bad := raw.Write(func(fd uintptr) bool {
		n, now := syscall.SendmsgN(int(fd), b, rights, nil, syscall.MSG_NOSIGNAL)
		if err = now; err == nil && n < len(b) {
			err = syscall.EMSGSIZE
		}
		return err != syscall.EAGAIN
	})
	return errors.Join(bad, err)
}
