package filter

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxFile is the largest file that is read from a target, in bytes.
const maxFile = 1 << 20

// readBelow reads a file of a target as the target itself would find it: a
// link that is absolute, as that of resolv.conf often is, starts at root
// again, and none leads out of it (openat2(2), RESOLVE_IN_ROOT; an os.Root
// refuses absolute links). Nothing but a regular file is opened to be read:
// a target may have put a FIFO or a device there. What is not there is empty.
func readBelow(root, name string) ([]byte, error) {
	text, err := readIn(root, name)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read /%s of the target: %w", name, err)
	}
	return text, nil
}

func readIn(root, name string) ([]byte, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := openIn(dir, name)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd)) // this very file
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("it is larger than %d KiB", maxFile>>10)
	}
	return text, err
}

// openIn finds a file without opening it. The kernel asks to try again where
// somebody renamed something meanwhile.
func openIn(dir int, name string) (fd int, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range 32 {
		fd, err = unix.Openat2(dir, name, &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return fd, err
}
