package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// programs are taken from the host, with their libraries: those that tests
// start, copy under other names, or look at; those that tell what is in force in
// a network; and the modprobe that the kernel calls. Busybox, which looks at the
// name it is called by, stands in for all others.
var programs = []string{"sh", "sleep", "true", "false", "cat", "echo", "env", "unshare", "ip", "tc", "nft", "kmod"}

// data is what the programs read: netem's distributions, and iproute2's names.
var data = []string{"/usr/lib/x86_64-linux-gnu/tc", "/etc/iproute2"}

// otherNames are names that programs go by besides.
var otherNames = map[string]string{
	"usr/sbin/modprobe": "../bin/kmod",
	"usr/sbin/ip":       "../bin/ip", // or busybox would take it
}

// addPrograms adds busybox and the programs, and what they need.
func addPrograms(a *archive, busybox string) error {
	seen := make(map[string]bool)
	if err := addELF(a, "usr/bin/busybox", busybox, seen); err != nil {
		return fmt.Errorf("take %s from the host: %w", busybox, err)
	}
	for _, name := range programs {
		p, err := find(name)
		if err == nil {
			p, err = filepath.EvalSymlinks(p) // ip is in sbin too, as a link
		}
		if err != nil {
			return err
		}
		if err := addELF(a, path.Join("usr", path.Base(path.Dir(p)), name), p, seen); err != nil {
			return fmt.Errorf("take %s from the host: %w", p, err)
		}
	}
	for name, target := range otherNames {
		a.link(name, target)
	}
	for _, dir := range data {
		a.copy(dir, dir)
	}
	return nil
}

// addELF adds a program or library under a name, and what it needs at the
// paths where the loader looks for it. seen are the paths that are there.
func addELF(a *archive, name, source string, seen map[string]bool) error {
	if seen[name] {
		return nil
	}
	seen[name] = true
	a.copy(name, source)
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
		// Through /usr, as /lib and /lib64 are links in there.
		p := strings.TrimRight(string(loader), "\x00")
		if err := addELF(a, "usr"+p, p, seen); err != nil {
			return err
		}
	}
	libraries, err := f.ImportedLibraries()
	for _, l := range libraries {
		p, notFound := library(l)
		err = errors.Join(err, notFound)
		if notFound == nil {
			err = errors.Join(err, addELF(a, "usr/lib/x86_64-linux-gnu/"+l, p, seen))
		}
	}
	return err
}

// library finds a shared library where Debian keeps them.
func library(name string) (string, error) {
	for _, dir := range []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64"} {
		p := filepath.Join(dir, name)
		if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
			return p, err
		}
	}
	return "", fmt.Errorf("find %s: %w", name, fs.ErrNotExist)
}
