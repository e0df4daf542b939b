package main

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// spread is the folder in which apart makes folders.
func (b *bench) spread() string { return filepath.Join(b.dir, "apart") }

// apart makes a folder for one flight. ext4 takes no inode that was freed in
// the last minutes, and looks at each of them before it finds one for a new
// file (fs/ext4/ialloc.c, recently_deleted): what one round removes would make
// the next one several times slower, as no user sees it who launches a lab now
// and then. So each round has a block group of its own, with nothing removed
// in it.
func (b *bench) apart() (string, error) {
	dir, err := os.MkdirTemp(b.spread(), "")
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "first"), nil, 0o600) // reads the group from disk
}

// spread asks the file system to place the folders in dir far from each other
// (chattr(1), T). Others than ext4 do not know that, nor need it.
func spread(dir string) {
	const topDir = 0x20000 // FS_TOPDIR_FL
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	if flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|topDir))
	}
}
