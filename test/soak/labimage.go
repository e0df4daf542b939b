package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
)

// writeImage writes the rootfs as docker save does: a layer, its configuration
// and a manifest.
func (k *labKit) writeImage() error {
	binary, err := os.ReadFile(k.rootfs + program)
	if err != nil {
		return err
	}
	layer, err := pack(entry{"data/", nil}, entry{program[1:], binary})
	if err != nil {
		return err
	}
	config, err1 := json.Marshal(map[string]any{
		"os": runtime.GOOS, "architecture": runtime.GOARCH, "config": map[string]any{"WorkingDir": "/"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	manifest, err2 := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{"soak:latest"}, "Layers": []string{"layer.tar"}}})
	whole, err3 := pack(entry{"manifest.json", manifest}, entry{"config.json", config}, entry{"layer.tar", layer})
	return errors.Join(err1, err2, err3, os.WriteFile(k.image, whole, 0o600))
}

// entry is a file of an archive; one without content is a folder.
type entry struct {
	name string
	data []byte
}

func pack(entries ...entry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(e.data))}
		if e.data == nil {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}
