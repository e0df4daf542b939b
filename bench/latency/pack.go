package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// Where Debian keeps libraries, and the tables of netem's distributions.
var (
	libraries = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64"}
	tables    = []string{"/usr/lib/x86_64-linux-gnu/tc", "/usr/lib/tc", "/usr/share/tc"}
)

// pack copies tc with all it needs into dir, for a machine that has none.
func pack(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	source, err := exec.LookPath("tc")
	if err != nil {
		return err
	}
	if err := errors.Join(copyFile(filepath.Join(dir, "tc"), source), copyLibraries(dir, source)); err != nil {
		return err
	}
	for _, name := range []string{"normal", "pareto", "paretonormal"} {
		if err := copyFrom(dir, name+".dist", tables); err != nil {
			return err
		}
	}
	return nil
}

// copyLibraries copies what an ELF file needs, and its loader as ld.so.
func copyLibraries(dir, source string) error {
	f, err := elf.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	if s := f.Section(".interp"); s != nil {
		loader, err := s.Data()
		if err != nil {
			return err
		}
		if err := copyFile(filepath.Join(dir, "ld.so"), string(loader[:len(loader)-1])); err != nil {
			return err
		}
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, name := range needed {
		to := filepath.Join(dir, name)
		if _, err := os.Stat(to); err == nil {
			continue
		}
		if err := copyFrom(dir, name, libraries); err != nil {
			return err
		}
		if err := copyLibraries(dir, to); err != nil {
			return err
		}
	}
	return nil
}

func copyFrom(dir, name string, where []string) error {
	for _, from := range where {
		err := copyFile(filepath.Join(dir, name), filepath.Join(from, name))
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("find %s: %w", name, fs.ErrNotExist)
}

func copyFile(to, from string) error {
	body, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, body, 0o755)
}
