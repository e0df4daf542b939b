package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

func privateMounts() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
}

// childStack mounts an image's layers as a container would, and prints what
// shows.
func childStack(dir, ref string) error {
	if err := tmpfs(dir, ""); err != nil {
		return err
	}
	c, err := Open(dir + "/cache")
	if err != nil {
		return err
	}
	img, err := c.Get(context.Background(), ref, Options{})
	if err != nil {
		return err
	}
	for _, sub := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(dir+"/"+sub, 0o755); err != nil {
			return err
		}
	}
	o := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", strings.Join(img.Layers, ":"), dir, dir)
	if err := unix.Mount("overlay", dir+"/root", "overlay", 0, o); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	return filepath.WalkDir(dir+"/root", func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			data, _ := os.ReadFile(path)
			fmt.Println(strings.TrimPrefix(path, dir+"/root/"), string(data))
		}
		return err
	})
}

// TestStack has the kernel stack layers that take away, replace and repeat.
func TestStack(t *testing.T) {
	alone(t)
	needRoot(t)
	lowest := []e{file("a/x", "1"), file("a/y", "1"), file("b/x", "1"), file("c", "1"), file("d/x", "1"), file("e", "1")}
	again := []e{file("f", "again"), file("e", "again")}
	for _, c := range []struct {
		name   string
		layers [][]e
		want   string
	}{
		{"whiteout and opaque and replaced", [][]e{lowest, {
			file("a/.wh.x", ""), file("b/.wh..wh..opq", ""), file("b/y", "2"), file(".wh.d", ""), dir("d"), file("d/y", "2"), dir("c"), file("c/x", "2"),
		}}, "a/y 1\nb/y 2\nc/x 2\nd/y 2\ne 1\n"},
		{"opaque root", [][]e{lowest, {file(".wh..wh..opq", ""), file("new", "2")}}, "new 2\n"},
		{"a layer twice", [][]e{again, {file("e", "between"), file(".wh.f", ""), file("g", "x")}, again}, "e again\nf again\ng x\n"},
		{"the same files again", [][]e{lowest, {file(".wh.a", "")}, {file("a/z", "3")}}, "a/z 3\nb/x 1\nc 1\nd/x 1\ne 1\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var layers []v1.Layer
			for _, l := range c.layers {
				layers = append(layers, layerOf(t, pack(t, l...)))
			}
			path := filepath.Join(t.TempDir(), "i.tar")
			saveDocker(t, path, map[string]v1.Image{"i:1": makeImage(t, layers...)})
			cmd := command(t, "stack", t.TempDir(), "docker-archive:"+path)
			cmd.SysProcAttr = privateMounts()
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if diff := cmp.Diff(c.want, string(out)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
