package image

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// The names by which a layer takes away what a lower one has: the OCI image
// specification, layer.md, "Whiteouts".
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	aufsPrefix     = ".wh..wh." // aufs's own files, which nothing reads any more
)

// opaqueAttr on a folder, "y", hides all that lower layers have in it
// (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
const opaqueAttr = "trusted.overlay.opaque"

// whiteout makes what a .wh. entry says in overlayfs's terms: a character
// device 0/0 hides a name. It is about lower layers only: what this one has
// by that name stays, whichever entry comes first.
func (u *unpacker) whiteout(where at) error {
	if where.name == opaqueName {
		return u.opaque(where.dir)
	}
	if strings.HasPrefix(where.name, aufsPrefix) {
		return nil
	}
	hidden := at{where.dir, strings.TrimPrefix(where.name, whiteoutPrefix)}
	if hidden.name == "" || hidden.name == "." || hidden.name == ".." {
		return errors.New("a whiteout of no name in its folder")
	}
	st, err := hidden.stat()
	switch {
	case errors.Is(err, unix.ENOENT):
		return unix.Mknodat(hidden.dir, hidden.name, unix.S_IFCHR, 0)
	case err == nil && isDir(st):
		return hidden.setXattr(opaqueAttr, "y")
	}
	return err
}

// opaque hides what lower layers have in a folder.
func (u *unpacker) opaque(dir int) error {
	if dir == u.root {
		u.stats.Opaque = true
		return nil
	}
	return at{dir, "."}.setXattr(opaqueAttr, "y")
}

// isWhiteout tells whether this is overlayfs's whiteout. In a layer's folder
// only whiteout makes device nodes.
func isWhiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR }

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }
