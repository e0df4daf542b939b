package box

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// rootOf returns how to open files of a process's root. Links stay inside it,
// and only regular files are opened, without waiting.
func rootOf(pid int) open {
	return func(path string) (io.ReadCloser, error) {
		root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		defer unix.Close(root)
		name, err := lookIn(root, path)
		if err != nil {
			return nil, err
		}
		defer unix.Close(name)
		var st unix.Stat_t
		if err := unix.Fstat(name, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil, irregular(st.Mode)
		}
		fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", name), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), path), nil
	}
}

// lookIn finds path below root. What is renamed or mounted on the host
// meanwhile can make openat2(2) say that it should be tried again.
func lookIn(root int, path string) (fd int, err error) {
	const tries = 1000
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: inside}
	for range tries {
		fd, err = unix.Openat2(root, path, &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return fd, err
}

// errFolder says that a file is a folder.
var errFolder = errors.New("it is a directory")

func irregular(mode uint32) error {
	if mode&unix.S_IFMT == unix.S_IFDIR {
		return errFolder
	}
	return errors.New("it is no regular file")
}
