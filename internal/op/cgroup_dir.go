package op

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// openCgroup returns the directory of a cgroup, once it is sure that it is the
// one that was planned.
func openCgroup(c experiment.CgroupDir) (int, error) {
	fd, err := unix.Open(c.Path, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return -1, fmt.Errorf("open cgroup %s: %w", c.Path, experiment.ErrGone)
	}
	if err != nil {
		return -1, fmt.Errorf("open cgroup %s: %w", c.Path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != c.Inode {
		unix.Close(fd)
		return -1, fmt.Errorf("cgroup %s is another one now: %w", c.Path, experiment.ErrGone)
	}
	return fd, nil
}

// writeAt writes value into a file of the directory that is there already.
func writeAt(dir int, file, value string) error {
	fd, err := unix.Openat(dir, file, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", file, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		if errors.Is(err, unix.ENODEV) { // the cgroup was removed meanwhile
			err = experiment.ErrGone
		}
		return fmt.Errorf("write %s to %s: %w", value, file, err)
	}
	return nil
}

// readAt returns what a file of the directory holds, without the last newline.
func readAt(dir int, file string) (string, error) {
	fd, err := unix.Openat(dir, file, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", file, err)
	}
	f := os.NewFile(uintptr(fd), file)
	defer f.Close()
	data, err := io.ReadAll(f)
	if errors.Is(err, unix.ENODEV) {
		err = experiment.ErrGone
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	return strings.TrimSuffix(string(data), "\n"), nil
}
