package policy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// ErrUntrusted says that the policy is not to be trusted, since somebody else
// than its owner could have written it. Nothing is run then.
var ErrUntrusted = errors.New("not to be trusted")

// Load reads the policy at file; nil where there is none. It must belong to
// owner (0 on a host), and so must its directory; nobody else may write either,
// and neither may be a symbolic link.
func Load(file string, owner int) (*Policy, error) {
	data, err := read(file, owner)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return Parse(file, data)
}

// Parse reads a policy strictly. Its errors name file and line.
func Parse(file string, data []byte) (*Policy, error) {
	p := &Policy{file: file}
	var err error
	if p.line, err = experiment.ReadFile(file, data, Kind, p); err != nil {
		return nil, err
	}
	return p, nil
}

func read(file string, owner int) ([]byte, error) {
	dir := filepath.Dir(file)
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link, or no directory: %w", dir, ErrUntrusted)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	if err := trusted(fd, dir, owner); err != nil {
		return nil, err
	}
	in, err := unix.Openat(fd, filepath.Base(file), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link: %w; put the file itself there", file, ErrUntrusted)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: file, Err: err}
	}
	f := os.NewFile(uintptr(in), file)
	defer f.Close()
	if err := trusted(in, file, owner); err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: %w", file, ErrUntrusted)
	}
	return io.ReadAll(io.LimitReader(f, experiment.MaxFileSize+1))
}

// trusted refuses what belongs to another, or what others may write.
func trusted(fd int, path string, owner int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	switch {
	case int(st.Uid) != owner:
		return fmt.Errorf("%s belongs to uid %d, not to uid %d: %w; say `chown %d %s` if you trust it", path, st.Uid, owner, ErrUntrusted, owner, path)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%s may be written by others than its owner (mode %04o): %w; say `chmod go-w %s` if you trust it", path, st.Mode&0o7777, ErrUntrusted, path)
	}
	return nil
}

// Validate implements experiment.Validator.
func (s Spec) Validate() error {
	for i, pattern := range s.Namespaces {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return experiment.Fieldf(fmt.Sprintf("namespaces/%d", i), "%q is not a name, nor a pattern with *", pattern)
		}
	}
	for _, f := range []struct {
		name string
		list []string
	}{{"runtimes", s.Runtimes}, {"namespaces", s.Namespaces}, {"faults", s.Faults}} {
		if f.list != nil && len(f.list) == 0 {
			return experiment.Fieldf(f.name, "an empty list allows nothing at all: leave it out to allow all")
		}
	}
	return nil
}

// Validate implements experiment.Validator.
func (b BlastRadius) Validate() error {
	if b.Targets < 0 {
		return experiment.Fieldf("targets", "%d is not a number of targets", b.Targets)
	}
	if b.Percent != nil && *b.Percent == 0 {
		return experiment.Fieldf("percent", "0 allows no target at all: leave it out, or give more")
	}
	return nil
}

// Known refuses names that are none of the catalogues', which allow nothing.
func (p *Policy) Known(runtimes, faults []string) error {
	if p == nil {
		return nil
	}
	for _, list := range []struct {
		field       string
		given, have []string
	}{{"runtimes", p.Spec.Runtimes, runtimes}, {"faults", p.Spec.Faults, faults}} {
		for _, name := range list.given {
			if err := known(name, list.have); err != nil {
				return fmt.Errorf("%s:%d: spec.%s: %w", p.file, p.lineOf(list.field), list.field, err)
			}
		}
	}
	return nil
}

func (p *Policy) lineOf(field string) int { return p.line(jsontext.Pointer("/spec/" + field)) }

func known(name string, have []string) error {
	if slices.Contains(have, name) {
		return nil
	}
	if near := experiment.Nearest(name, have); near != "" {
		return fmt.Errorf("nothing is called %q (did you mean %q?)", name, near)
	}
	return fmt.Errorf("nothing is called %q: there are %s", name, strings.Join(have, " "))
}
