package box

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/stage"
)

// talk is the socket on which a first stage and its launcher talk.
type talk struct {
	*os.File
	other   int // the end that is sent along
	said    []byte
	speaker int // pid of who spoke last
}

func newTalk() (*talk, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	err = errors.Join(unix.SetNonblock(pair[0], true), unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
	t := &talk{File: os.NewFile(uintptr(pair[0]), "talk"), other: pair[1]}
	if err != nil {
		t.Close()
		return nil, fmt.Errorf("make socket: %w", err)
	}
	return t, nil
}

func (t *talk) theirs() int { return t.other }

func (t *talk) closeTheirs() {
	if t.other >= 0 {
		unix.Close(t.other)
		t.other = -1
	}
}

// Close closes both ends.
func (t *talk) Close() error {
	t.closeTheirs()
	return t.File.Close()
}

// word returns the next n bytes that were said; nil where the other end is
// closed.
func (t *talk) word(n int) ([]byte, error) {
	for len(t.said) < n {
		if err := t.listen(); err != nil {
			return nil, err
		}
		if t.said == nil {
			return nil, nil
		}
	}
	word := t.said[:n]
	t.said = t.said[n:]
	return word, nil
}

// listen waits for what is said next, and learns who says it.
func (t *talk) listen() error {
	raw, err := t.SyscallConn()
	if err != nil {
		return err
	}
	var n, oobn int
	var bad error
	buffer, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, _, _, bad = unix.Recvmsg(int(fd), buffer, oob, unix.MSG_CMSG_CLOEXEC)
			if bad != unix.EINTR {
				return bad != unix.EAGAIN
			}
		}
	})
	if bad == unix.ECONNRESET { // it ended before it had read all
		n, bad = 0, nil
	}
	if err := errors.Join(err, bad); err != nil {
		return fmt.Errorf("listen to the first stage: %w", err)
	}
	if n == 0 {
		t.said = nil
		return nil
	}
	t.said = append(bytes.Clone(t.said), buffer[:n]...)
	messages, _ := unix.ParseSocketControlMessage(oob[:oobn])
	for i := range messages {
		if who, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			t.speaker = int(who.Pid)
		}
	}
	return nil
}

// raise answers the first stage until the command is executed.
func (b *birth) raise(t *talk) error {
	executes := false
	for {
		word, err := t.word(1)
		switch {
		case err != nil:
			return err
		case word == nil && executes:
			return nil
		case word == nil:
			return errors.New("it was killed while it was made")
		}
		switch word[0] {
		case stage.Ask:
			err = b.answer(t)
		case stage.Map:
			return b.mapUsers()
		case stage.Execute:
			executes = true
		case stage.Failed:
			err = b.failure(t)
		}
		if err != nil {
			return err
		}
	}
}

// answer says who the user is.
func (b *birth) answer(t *talk) error {
	u, err := lookUp(b.user, rootOf(b.p.id.PID))
	if err != nil {
		return err
	}
	_, err = t.Write(encodeUser(u))
	return err
}

// failure says which op failed.
func (b *birth) failure(t *talk) error {
	word, err := t.word(8)
	if err != nil || word == nil {
		return errors.Join(errors.New("it failed, and did not say where"), err)
	}
	at, errno := int(binary.NativeEndian.Uint32(word)), unix.Errno(binary.NativeEndian.Uint32(word[4:]))
	words := "run first stage"
	if at < len(b.a.words) {
		words = b.a.words[at]
	}
	if words == execWords {
		return b.execError(errno)
	}
	return fmt.Errorf("%s: %w", words, errno)
}

// named learns who the command's process is, where a reaper stands before it.
func (b *birth) named(t *talk) error {
	if !b.init {
		return nil
	}
	fd, err := unix.PidfdOpen(t.speaker, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil // it has ended already
	}
	id, err := b.l.fs.Identify(t.speaker)
	if err != nil {
		unix.Close(fd)
		return nil
	}
	b.p.target, b.p.workload = os.NewFile(uintptr(fd), "pidfd"), id
	return nil
}
