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
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name) // not in everybody's PATH
	}
	if err != nil {
		*missing = append(*missing, name)
	}
	return path
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

// binary is the tests of one package.
type binary struct {
	pkg  string // its import path
	dir  string // of its sources
	path string // "" where it has no tests

	helpers map[string]string // folder below testdata -> the program built from it
}

// build compiles the packages' tests into dir, and the programs in their
// testdata.
func build(ctx context.Context, dir string, packages []string) ([]binary, error) {
	listed, err := output(ctx, "go", append([]string{"list", "-f", "{{.ImportPath}}\t{{.Dir}}"}, packages...)...)
	if err != nil {
		return nil, err
	}
	// Nobody debugs in there, and a third less is to be loaded.
	test := append([]string{"test", "-c", "-ldflags=-s -w", "-o", dir + "/"}, packages...)
	if _, err := output(ctx, "go", test...); err != nil {
		return nil, err
	}
	var all []binary
	for line := range strings.Lines(listed) {
		pkg, folder, _ := strings.Cut(strings.TrimSpace(line), "\t")
		b := binary{pkg: pkg, dir: folder, path: filepath.Join(dir, filepath.Base(pkg)+".test")}
		if !exists(b.path) {
			b.path = ""
		}
		if err := b.buildHelpers(ctx, dir); err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

// buildHelpers builds each program whose sources are a folder in testdata: a
// test cannot build it in there, where no toolchain is. One called ia32 is for
// the processor's 32-bit mode.
func (b *binary) buildHelpers(ctx context.Context, dir string) error {
	b.helpers = make(map[string]string)
	sources, err := filepath.Glob(filepath.Join(b.dir, "testdata/*/main.go"))
	for _, source := range sources {
		folder := filepath.Dir(source)
		program := filepath.Join(dir, filepath.Base(b.pkg)+"-"+filepath.Base(folder))
		arch := "GOARCH=amd64"
		if filepath.Base(folder) == "ia32" {
			arch = "GOARCH=386"
		}
		if _, err := output(ctx, "env", arch, "go", "build", "-ldflags=-s -w", "-o", program, folder); err != nil {
			return err
		}
		b.helpers[filepath.Base(folder)] = program
	}
	return err
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
