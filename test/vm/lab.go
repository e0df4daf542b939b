package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// lab is what make lab has put on this machine.
type lab struct {
	root    string // of the repository
	qemu    string
	busybox string
	mkfs    string
	kernel  string // vmlinuz
	modules string // the folder that modules.dep's paths start from
}

// repository is the folder that bin/vm is in.
func repository(ctx context.Context) (string, error) {
	root, err := output(ctx, "go", "list", "-m", "-f", "{{.Dir}}")
	return strings.TrimSpace(root), err
}

// findLab finds all of it, or says what is missing.
func findLab(root, kernel string) (lab, error) {
	l := lab{root: root}
	var missing []string
	l.qemu = program("qemu-system-x86_64", &missing)
	l.busybox = program("busybox", &missing)
	l.mkfs = program("mkfs.ext4", &missing)
	where := filepath.Join(root, "bin/vm/kernels", kernel)
	l.kernel = only(filepath.Join(where, "boot/vmlinuz-*"), &missing)
	l.modules = filepath.Dir(only(filepath.Join(where, "lib/modules/*/modules.dep"), &missing))
	if missing != nil {
		return l, fmt.Errorf("no %s here: `make lab` installs it", strings.Join(missing, ", "))
	}
	return l, nil
}

func program(name string, missing *[]string) string {
	path, err := find(name)
	if err != nil {
		*missing = append(*missing, name)
	}
	return path
}

// find looks for a program where root has it too.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	return path, err
}

// only returns the one file that matches the pattern.
func only(pattern string, missing *[]string) string {
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) != 1 {
		*missing = append(*missing, pattern)
		return ""
	}
	return paths[0]
}

// output runs a command of the toolchain, without cgo: what it builds must not
// need the host's libraries.
func output(ctx context.Context, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := c.Output()
	if e := (*exec.ExitError)(nil); errors.As(err, &e) {
		return "", fmt.Errorf("%s %s: %w\n%s", name, args[0], err, strings.TrimSpace(string(e.Stderr)))
	}
	return string(out), err
}
