package main

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

var (
	//go:embed init.sh
	initScript []byte
	//go:embed go.sh
	goScript []byte
)

// settings are files that a Debian has: the users that tests become, and what
// keeps modules from making links of their own as they are loaded.
var settings = map[string]string{
	"etc/passwd":                  "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
	"etc/group":                   "root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n",
	"etc/hosts":                   "127.0.0.1 localhost vm\n::1 localhost\n",
	"etc/hostname":                "vm\n",
	"etc/resolv.conf":             "",
	"etc/nsswitch.conf":           "passwd: files\ngroup: files\nhosts: files dns\n",
	"etc/machine-id":              "5153494d49414e0000000000766d0001\n",
	"etc/modprobe.d/systemd.conf": "options bonding max_bonds=0\noptions dummy numdummies=0\noptions ifb numifbs=0\n",
	"etc/os-release":              "ID=simian-vm\nPRETTY_NAME=\"Simian's second kernel\"\n",
}

// initramfs is where the machine's files are packed.
func (m machine) initramfs() string { return filepath.Join(m.dir, "initramfs") }

// pack writes the initramfs, uncompressed: to unpack it takes the emulated
// processor longer than to read it.
func (m machine) pack(binaries []binary) error {
	f, err := os.Create(m.initramfs())
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	a := newArchive(w)
	addSystem(a)
	m.addTests(a, binaries)
	err = errors.Join(addPrograms(a, m.lab.busybox), addModules(a, m.lab.modules), a.close())
	return errors.Join(err, w.Flush(), f.Close())
}

// addSystem adds what a small Debian has, in Debian's merged layout.
func addSystem(a *archive) {
	a.file("init", 0o755, initScript)
	a.file("usr/local/bin/go", 0o755, goScript)
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		a.folder("usr/" + dir)
		a.link(dir, "usr/"+dir)
	}
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "root", "mnt", "var/lib", "var/log", "usr/local/bin", "usr/local/sbin", "simian/bin"} {
		a.folder(dir)
	}
	a.link("var/run", "/run")
	a.link("var/tmp", "/tmp")
	for name, text := range settings {
		a.file(name, 0o644, []byte(text))
	}
}

// addModules adds the modules and depmod's indexes, where modprobe looks for
// them, and the names of those to load at boot.
func addModules(a *archive, dir string) error {
	t, err := readTree(dir)
	if err != nil {
		return err
	}
	paths, err := t.closure(wanted)
	inside := "usr/lib/modules/" + filepath.Base(dir)
	for _, p := range paths {
		a.copy(path.Join(inside, p), filepath.Join(dir, p))
	}
	indexes, globbed := filepath.Glob(filepath.Join(dir, "modules.*"))
	for _, file := range indexes {
		a.copy(path.Join(inside, filepath.Base(file)), file)
	}
	a.file("lab/modules", 0o644, []byte(strings.Join(atBoot, "\n")+"\n"))
	return errors.Join(err, globbed)
}

// read is what tests read outside of their own package: the pages they compare
// with the code, and the examples.
var read = []string{"README.md", "docs/*", "examples/*/*", "examples/*/*/*.yaml"}

// addTests adds each package's tests and testdata where they are in the
// repository, what else they read there, and the order in which they run.
func (m machine) addTests(a *archive, binaries []binary) {
	var order strings.Builder
	for _, b := range binaries {
		if b.path == "" {
			continue
		}
		dir := m.inside(a, b.dir)
		a.copy(dir+"/vm.test", b.path)
		if testdata := filepath.Join(b.dir, "testdata"); exists(testdata) {
			a.copy(dir+"/testdata", testdata)
		}
		for from, program := range b.programs {
			a.copy(path.Join(m.inside(a, from), filepath.Base(from)), program)
		}
		fmt.Fprintf(&order, "%s /%s\n", b.pkg, dir)
	}
	a.file("lab/tests", 0o644, []byte(order.String()))
	a.file("lab/run", 0o644, []byte(m.run+"\n"))
	a.file("lab/skip", 0o644, []byte(m.skip+"\n"))
	for _, pattern := range read {
		files, err := filepath.Glob(filepath.Join(m.lab.root, pattern))
		a.keep(err)
		for _, file := range files {
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
				a.copy(m.inside(a, file), file)
			}
		}
	}
	if m.exec != "" {
		a.file("lab/exec", 0o644, []byte(m.exec+"\n"))
	}
	for _, file := range m.with {
		a.copy(m.inside(a, file), file)
	}
}

// inside is where a file of the repository lies in the machine. One from
// elsewhere is put beside the programs.
func (m machine) inside(a *archive, file string) string {
	abs, err := filepath.Abs(file)
	a.keep(err)
	rel, err := filepath.Rel(m.lab.root, abs)
	a.keep(err)
	if !filepath.IsLocal(rel) {
		rel = filepath.Join("bin", filepath.Base(abs))
	}
	return path.Join("simian", filepath.ToSlash(rel))
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
