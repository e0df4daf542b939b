package image

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestUseAndPrune(t *testing.T) {
	c, host := openCache(t), startRegistry(t)
	base := layerOf(t, pack(t, file("base", strings.Repeat("x", 10_000))))
	for _, name := range []string{"a", "b"} {
		push(t, host+"/"+name+":1", makeImage(t, base, layerOf(t, pack(t, file("bin/hello", name)))))
	}
	get := func(name string) *Image {
		t.Helper()
		img, err := c.Get(t.Context(), host+"/"+name+":1", Options{})
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	a, b := get("a"), get("b")
	release, err := c.Use(t.Context(), a, "run-1")
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.List(t.Context())
	if err != nil || len(list) != 2 || list[0].Ref != host+"/a:1" || list[0].Size != 7*block || list[0].InUseBy[0] != "run-1" || len(list[1].InUseBy) != 0 {
		t.Errorf("list %+v, %v", list, err)
	}
	var inUse *InUseError
	if err := c.Remove(t.Context(), host+"/a:1"); !errors.As(err, &inUse) || inUse.By[0] != "run-1" {
		t.Errorf("remove what is in use: %v", err)
	}
	if p, err := c.Prune(t.Context(), PruneOptions{All: true, UnusedFor: time.Hour}); err != nil || p.Layers != 0 {
		t.Errorf("prune of what was used just now: %+v, %v", p, err)
	}
	p, err := c.Prune(t.Context(), PruneOptions{All: true})
	if err != nil || p.Layers != 1 || len(p.Images) != 1 || p.Images[0] != host+"/b:1" {
		t.Errorf("prune: %+v, %v", p, err)
	}
	if says(t, a) != "a" {
		t.Error("a's layer is gone")
	}
	if _, err := c.Use(t.Context(), b, "run-2"); !errors.Is(err, ErrPruned) {
		t.Errorf("use what is pruned: %v", err)
	}
	if err := c.Release(t.Context(), "run-1"); !errors.Is(err, errInUse) {
		t.Errorf("release what lives: %v", err)
	}
	for range 2 {
		if err := release(); err != nil {
			t.Error(err)
		}
	}
	if err := c.Remove(t.Context(), a.Digest[:7+nameLen]); err != nil {
		t.Error(err)
	}
	if err := c.Remove(t.Context(), host+"/a:1"); !errors.Is(err, ErrNotThere) {
		t.Errorf("remove again: %v", err)
	}
	leftovers(t, c, tmpDir, useDir, layerDir, recordDir)
}

// TestDanglingLayers prunes what a tag has left behind.
func TestDanglingLayers(t *testing.T) {
	c, host := openCache(t), startRegistry(t)
	for _, s := range []string{"one", "two"} {
		push(t, host+"/a:1", hello(t, s))
		if _, err := c.Get(t.Context(), host+"/a:1", Options{Pull: "always"}); err != nil {
			t.Fatal(err)
		}
	}
	p, err := c.Prune(t.Context(), PruneOptions{})
	if err != nil || p.Layers != 1 || len(p.Images) != 0 || p.Bytes == 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestDeadHolder kills the process of a lab: what it held goes.
func TestDeadHolder(t *testing.T) {
	alone(t)
	c := openCache(t)
	ref := manyLayers(t, 1, 1)
	cmd := command(t, "get", c.dir, ref)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if p, err := c.Prune(t.Context(), PruneOptions{All: true}); err != nil || p.Layers != 0 {
		t.Errorf("prune beside a living holder: %+v, %v", p, err)
	}
	if err := c.Release(t.Context(), "child"); !errors.Is(err, errInUse) {
		t.Errorf("release of a living holder: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := c.Release(t.Context(), "child"); err != nil {
		t.Error(err)
	}
	leftovers(t, c, useDir)
	if p, err := c.Prune(t.Context(), PruneOptions{All: true}); err != nil || p.Layers != 1 {
		t.Errorf("prune after its death: %+v, %v", p, err)
	}
}
