package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The workload, in two languages. It writes the time of its first instruction
// on CLOCK_MONOTONIC, in nanoseconds, and then does as its mode says.
var (
	//go:embed testdata/first.c
	firstC []byte
	//go:embed testdata/first/first.go
	firstGo []byte
)

// Modes of the workload.
const (
	leave = "leave" // exits at once
	hold  = "hold"  // exits when its standard input ends
	stay  = "stay"  // never
)

// program is where the workload is in its container.
const program = "/first"

// buildRoot makes a root folder with the workload in it, and returns in which
// language it is.
func buildRoot(ctx context.Context, dir string) (language string, err error) {
	for _, sub := range []string{"proc", "sys", "dev", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return "", err
		}
	}
	for _, file := range []string{"hosts", "hostname", "resolv.conf"} {
		if err := os.WriteFile(filepath.Join(dir, "etc", file), nil, 0o644); err != nil {
			return "", err
		}
	}
	out := filepath.Join(dir, program)
	for _, compiler := range []string{"gcc", "clang"} {
		if _, err := exec.LookPath(compiler); err == nil {
			return "C, without a library", compile(ctx, out+".c", firstC, compiler, "-static", "-nostdlib", "-ffreestanding", "-O2", "-o", out)
		}
	}
	return "Go: no C compiler is there, so Go's own start is in every figure", compile(ctx, out+".go", firstGo, "go", "build", "-o", out)
}

func compile(ctx context.Context, source string, text []byte, command ...string) error {
	if err := os.WriteFile(source, text, 0o600); err != nil {
		return err
	}
	defer os.Remove(source)
	c := exec.CommandContext(ctx, command[0], append(command[1:], source)...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build the workload: %w\n%s", err, out)
	}
	return nil
}
