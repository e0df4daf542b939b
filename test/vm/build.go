package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// binary is the tests of one package.
type binary struct {
	pkg  string // its import path
	dir  string // of its sources
	path string // "" where it has no tests

	programs map[string]string // folder -> the program built from it
}

// outside are the programs that a package's tests build, as folders of the
// repository, besides those in the package's own testdata.
var outside = map[string][]string{
	"cmd/simian":   {"targets/native/testdata/inside", "examples/quickstart", "examples/shop"},
	"test/hostile": {"test/hostile"},
}

// build compiles the packages' tests, and the programs that they need.
func (m machine) build(ctx context.Context) ([]binary, error) {
	if len(m.packages) == 0 {
		return nil, nil
	}
	listed, err := output(ctx, "go", append([]string{"list", "-f", "{{.ImportPath}}\t{{.Dir}}"}, m.packages...)...)
	if err != nil {
		return nil, err
	}
	// Nobody debugs in there, and a third less is to be loaded.
	test := append([]string{"test", "-c", "-ldflags=-s -w", "-o", m.dir + "/"}, m.packages...)
	if _, err := output(ctx, "go", test...); err != nil {
		return nil, err
	}
	var all []binary
	for line := range strings.Lines(listed) {
		pkg, folder, _ := strings.Cut(strings.TrimSpace(line), "\t")
		b := binary{pkg: pkg, dir: folder, path: filepath.Join(m.dir, filepath.Base(pkg)+".test")}
		if !exists(b.path) {
			b.path = ""
		}
		if b.programs, err = m.buildPrograms(ctx, folder); err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

// buildPrograms builds what the tests in a folder build by themselves on other
// machines: each program whose sources are a folder in testdata, and those
// outside. One called ia32 is for the processor's 32-bit mode.
func (m machine) buildPrograms(ctx context.Context, folder string) (map[string]string, error) {
	sources, err := filepath.Glob(filepath.Join(folder, "testdata/*/main.go"))
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(m.lab.root, folder)
	for _, other := range outside[filepath.ToSlash(rel)] {
		sources = append(sources, filepath.Join(m.lab.root, other, "main.go"))
	}
	built := make(map[string]string)
	for _, source := range sources {
		from := filepath.Dir(source)
		program, notBuilt := m.buildProgram(ctx, from)
		err = errors.Join(err, notBuilt)
		built[from] = program
	}
	return built, err
}

// buildProgram builds the program whose sources are in a folder.
func (m machine) buildProgram(ctx context.Context, from string) (string, error) {
	dir, err := os.MkdirTemp(m.dir, "program-")
	if err != nil {
		return "", err
	}
	arch := "GOARCH=amd64"
	if filepath.Base(from) == "ia32" {
		arch = "GOARCH=386"
	}
	program := filepath.Join(dir, filepath.Base(from))
	_, err = output(ctx, "env", arch, "go", "build", "-C", from, "-trimpath", "-ldflags=-s -w", "-o", program, ".")
	return program, err
}
