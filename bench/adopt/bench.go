package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bench is what all parts share.
type bench struct {
	options
	dir     string // for all files; gone afterwards
	image   string
	begun   int
	machine machine
	tools   []*tool
	crashed []*crash
	listed  listing
	missing []string // what was not measured, and why
}

// patience is how long anything is waited for.
const patience = 30 * time.Second

func newBench(ctx context.Context, o options) (*bench, error) {
	dir, err := os.MkdirTemp("", "simian-bench-adopt-")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, dir: dir, image: fmt.Sprintf("localhost/simian-bench:%d", os.Getpid()), machine: thisMachine()}
	if err := b.makeImage(ctx); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// makeImage makes an image of one static program, without a shell.
func (b *bench) makeImage(ctx context.Context) error {
	root := filepath.Join(b.dir, "root")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(root, "subject"), "./test/faults/testdata/subject")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the image's program: %w: %s", err, out)
	}
	archive := filepath.Join(b.dir, "root.tar")
	if _, err := command(ctx, "tar", "-C", root, "-cf", archive, "."); err != nil {
		return err
	}
	_, err := command(ctx, "docker", "import", archive, b.image)
	return err
}

func (b *bench) close() error { return os.RemoveAll(b.dir) }

// command runs a command and returns what it prints.
func command(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, text)
	}
	return text, nil
}

// start starts a container and returns its name.
func (b *bench) start(ctx context.Context, options ...string) (string, error) {
	b.begun++
	name := fmt.Sprintf("bench-%d-%d", os.Getpid(), b.begun)
	args := append([]string{"docker", "run", "-d", "--name", name, "--tmpfs", "/shared"}, options...)
	_, err := command(ctx, append(args, b.image, "/subject", "serve", "/shared", ":7001", ":7002")...)
	return name, err
}

func remove(names ...string) error {
	_, err := command(context.Background(), append([]string{"docker", "rm", "-f"}, names...)...)
	return err
}

func pidOf(ctx context.Context, name string) (int, error) {
	text, err := command(ctx, "docker", "inspect", "-f", "{{.State.Pid}}", name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// own is simian with a state directory of its own.
func (b *bench) own(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, b.simian, append([]string{"--state", filepath.Join(b.dir, "state")}, args...)...)
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "adopt: "+format+"\n", args...)
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// median is the middle one, or the mean of the two in the middle.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
