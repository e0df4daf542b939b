package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// childFull gets an image onto a file system of 2 MiB.
func childFull(dir, ref string) error {
	if err := tmpfs(dir, "size=2m"); err != nil {
		return err
	}
	c, err := Open(dir + "/cache")
	if err != nil {
		return err
	}
	_, err = c.Get(context.Background(), ref, Options{})
	fmt.Println("get:", err)
	for _, sub := range []string{tmpDir, useDir, layerDir, recordDir} {
		list, _ := os.ReadDir(c.path(sub))
		for _, e := range list {
			fmt.Println("left:", sub, e.Name())
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("no ENOSPC")
	}
	return nil
}

// tmpfs mounts one that nobody outside this process's mount namespace sees.
func tmpfs(dir, options string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("tmpfs", dir, "tmpfs", 0, options)
}

func TestDiskFull(t *testing.T) {
	alone(t)
	needRoot(t)
	cmd := command(t, "full", t.TempDir(), manyLayers(t, 1, 1000))
	cmd.SysProcAttr = privateMounts()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if strings.Contains(string(out), "left:") || strings.Count(string(out), "\n") != 1 ||
		!strings.Contains(string(out), "no space left on device: the image cache's disk is full (simian image prune makes room)") {
		t.Errorf("%s", out)
	}
}
