package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// child is what this test program does when a test has started it anew.
func child(job string) int {
	cache, ref := os.Getenv("IMAGE_TEST_CACHE"), os.Getenv("IMAGE_TEST_REF")
	err := map[string]func(string, string) error{"get": childGet, "full": childFull, "stack": childStack}[job](cache, ref)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// childGet gets an image, holds it and waits for its standard input to end.
func childGet(cache, ref string) error {
	c, err := Open(cache)
	if err != nil {
		return err
	}
	img, err := c.Get(context.Background(), ref, Options{})
	if err != nil {
		return err
	}
	if _, err := c.Use(context.Background(), img, "child"); err != nil {
		return err
	}
	fmt.Println("have", strings.Join(img.Layers, ":"))
	_, _ = os.Stdin.Read(make([]byte, 1))
	return nil
}

func command(t *testing.T, job, cache, ref string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), "IMAGE_TEST_JOB="+job, "IMAGE_TEST_CACHE="+cache, "IMAGE_TEST_REF="+ref)
	return cmd
}

// manyLayers makes an archive of an image with n layers of m files each.
func manyLayers(t *testing.T, n, m int) string {
	t.Helper()
	var layers []v1.Layer
	for i := range n {
		list := []e{file("bin/hello", "x")}
		for j := range m {
			list = append(list, file(fmt.Sprintf("l%d/f%d", i, j), strings.Repeat("x", 4000)))
		}
		layers = append(layers, layerOf(t, pack(t, list...)))
	}
	path := filepath.Join(t.TempDir(), "many.tar")
	saveDocker(t, path, map[string]v1.Image{"many:1": makeImage(t, layers...)})
	return "docker-archive:" + path
}

// TestGetTogether has goroutines and processes get one image at the same time.
func TestGetTogether(t *testing.T) {
	alone(t)
	c := openCache(t)
	ref := manyLayers(t, 6, 100)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			img, err := c.Get(t.Context(), ref, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if len(img.Layers) != 6 {
				t.Errorf("goroutine %d has %d layers", i, len(img.Layers))
			}
		})
		all.Go(func() {
			if out, err := command(t, "get", c.dir, ref).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	all.Wait()
	leftovers(t, c, tmpDir)
	list, err := os.ReadDir(c.path(layerDir))
	if err != nil || len(list) != 6 {
		t.Errorf("%d layers, %v", len(list), err)
	}
}

// TestKilledWhileUnpacking kills processes at random moments; the next Get
// is whole, and nothing of theirs is left.
func TestKilledWhileUnpacking(t *testing.T) {
	alone(t)
	c := openCache(t)
	ref := manyLayers(t, 4, 200)
	interrupted := 0
	for i := range 12 {
		cmd := command(t, "get", c.dir, ref)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(5 * time.Second)
		for !busy(c) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		if busy(c) {
			interrupted++
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err := os.RemoveAll(c.path(layerDir)); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(c.path(layerDir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of 12 were killed while they unpacked", interrupted)
	img, err := c.Get(t.Context(), ref, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range img.Layers {
		if files, err := filepath.Glob(l + "/l*/f*"); err != nil || len(files) != 200 {
			t.Errorf("layer %d has %d files, %v", i, len(files), err)
		}
	}
	leftovers(t, c, tmpDir)
	if _, err := c.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Error(err)
	}
	leftovers(t, c, useDir)
}

// busy tells whether something is being unpacked.
func busy(c *Cache) bool {
	list, _ := os.ReadDir(c.path(tmpDir))
	return len(list) > 0
}

// TestGetAgainstPrune gets, uses and prunes all at once: what Use has
// promised stays.
func TestGetAgainstPrune(t *testing.T) {
	alone(t)
	c := openCache(t)
	refs := []string{manyLayers(t, 3, 5), manyLayers(t, 2, 7)}
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := getUseCheck(c, refs[n%2], fmt.Sprintf("run-%d", i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Go(func() {
		for ctx.Err() == nil {
			if _, err := c.Prune(t.Context(), PruneOptions{All: true}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	all.Wait()
}

func getUseCheck(c *Cache, ref, holder string) error {
	img, err := c.Get(context.Background(), ref, Options{})
	if err != nil {
		return err
	}
	release, err := c.Use(context.Background(), img, holder)
	if errors.Is(err, ErrPruned) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, l := range img.Layers {
		if _, err := os.Stat(l + "/bin/hello"); err != nil {
			return fmt.Errorf("a layer in use is gone: %w", err)
		}
	}
	return release()
}

// TestNamesAlike puts another layer under a layer's short name.
func TestNamesAlike(t *testing.T) {
	alone(t)
	c := openCache(t)
	ref := manyLayers(t, 1, 1)
	img, err := c.Get(t.Context(), ref, Options{})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(filepath.Dir(img.Layers[0]))
	if err := writeJSON(c.path(layerDir, name, layerFile), layer{DiffID: someDigest}); err != nil {
		t.Fatal(err)
	}
	again, err := c.Get(t.Context(), ref, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if again.Layers[0] == img.Layers[0] || says(t, again) != "x" {
		t.Errorf("another's layer was taken: %v", again.Layers)
	}
}
