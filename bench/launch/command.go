package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/box"
)

// command is a tool that is a command: it launches one container, stays until
// that has ended, and exits as it did.
type command struct {
	*bench
	name string
	args func(i int, mode string) []string
}

// ready implements tool.
func (c *command) ready(int) error { return nil }

// launch implements tool.
func (c *command) launch(_ context.Context, i int, mode string, io box.Stdio) (func() error, error) {
	args := c.args(i, mode)
	log, err := os.OpenFile(filepath.Join(c.dir, c.name+".log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = io.In, io.Out, log
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := c.room.do(cmd.Start); err != nil {
		log.Close()
		return nil, err
	}
	return func() error {
		defer log.Close()
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, tail(log))
		}
		return nil
	}, nil
}

// tail returns the end of what a tool has said.
func tail(log *os.File) string {
	info, err := log.Stat()
	if err != nil {
		return ""
	}
	end := make([]byte, min(info.Size(), 500))
	_, _ = log.ReadAt(end, info.Size()-int64(len(end)))
	return strings.TrimSpace(string(end))
}

// alone is the workload without any container: what forking and executing it
// takes, from here.
func (b *bench) alone() tool {
	return &command{b, "alone", func(_ int, mode string) []string { return []string{filepath.Join(b.rootfs, program), mode} }}
}

// oci is a runtime that takes a bundle: crun or runc.
func (b *bench) oci(name, runtime string, filtered bool) (tool, error) {
	cgroups := b.name + "/" + name
	if err := b.writeBundles(name, cgroups, filtered); err != nil {
		return nil, err
	}
	b.closers = append(b.closers, func() error { return box.RemoveCgroup(context.Background(), b.fs, cgroups) })
	return &command{b, name, func(i int, mode string) []string {
		id := fmt.Sprintf("%s-%s-%d", b.name, name, i)
		return []string{runtime, "--root", filepath.Join(b.runDir(), name), "run", "--bundle", b.bundle(name, i, mode), id}
	}}, nil
}

func (b *bench) bwrap(path string) tool {
	return &command{b, "bwrap", func(_ int, mode string) []string {
		return []string{
			path, "--unshare-all", "--hostname", "c", "--bind", b.rootfs, "/", "--proc", "/proc", "--dev", "/dev",
			"--cap-drop", "ALL", "--chdir", "/", "--", program, mode,
		}
	}}
}
