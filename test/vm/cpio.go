package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// archive writes an initramfs: a cpio archive in the "newc" format, as the
// kernel's Documentation/driver-api/early-userspace/buffer-format.rst has it.
// The folders that a file lies in are made by themselves. Everything belongs
// to root. The first error stays, and close returns it.
type archive struct {
	w    io.Writer
	err  error
	size int64 // bytes written
	ino  int
	made map[string]bool
}

func newArchive(w io.Writer) *archive {
	return &archive{w: w, made: map[string]bool{".": true}}
}

// file adds a file with these permissions.
func (a *archive) file(name string, mode fs.FileMode, body []byte) {
	a.entry(name, 0o100000|uint32(mode.Perm()), body)
}

// link adds a symbolic link.
func (a *archive) link(name, target string) { a.entry(name, 0o120777, []byte(target)) }

// folder adds a folder and those above it, unless they are there.
func (a *archive) folder(name string) {
	if name = path.Clean(name); a.made[name] {
		return
	}
	a.made[name] = true
	a.entry(name, 0o040755, nil)
}

// copy adds a file of this machine, or a folder with all that is in it.
func (a *archive) copy(name, source string) {
	a.keep(filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := os.Stat(p) // a link is followed
		if err != nil {
			return err
		}
		body, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		a.file(path.Join(name, strings.TrimPrefix(p, source)), info.Mode(), body)
		return a.err
	}))
}

// close ends the archive.
func (a *archive) close() error {
	a.header("TRAILER!!!", 0, 0)
	return a.err
}

func (a *archive) entry(name string, mode uint32, body []byte) {
	name = strings.TrimPrefix(path.Clean(name), "/")
	a.folder(path.Dir(name))
	a.ino++
	a.header(name, mode, len(body))
	a.write(body)
	a.pad()
}

// header writes the 13 fields of 8 hexadecimal digits and the name. Of the
// fields, inode, mode, links, size of the file and of the name are not zero.
func (a *archive) header(name string, mode uint32, size int) {
	a.write(fmt.Appendf(nil, "070701%08x%08x%016x%08x%08x%08x%032x%08x%08x%s\x00",
		a.ino, mode, 0, 1, 0, size, 0, len(name)+1, 0, name))
	a.pad()
}

// pad fills up to a multiple of four bytes.
func (a *archive) pad() { a.write(make([]byte, (4-a.size%4)%4)) }

func (a *archive) write(b []byte) {
	if a.err != nil {
		return
	}
	n, err := a.w.Write(b)
	a.size += int64(n)
	a.keep(err)
}

func (a *archive) keep(err error) {
	if a.err == nil {
		a.err = err
	}
}
