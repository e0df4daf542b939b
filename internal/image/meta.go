package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// setInode gives owner, mode and time to what is no regular file and no folder.
func setInode(where at, h *tar.Header) error {
	if err := setOwner(where, h); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeFifo { // a symlink has no mode of its own
		if err := unix.Fchmodat(where.dir, where.name, uint32(h.Mode)&0o7777, 0); err != nil {
			return err
		}
	}
	return setTime(where, h.ModTime)
}

// setMeta gives a file or folder its owner, mode and attributes, in this
// order: a change of owner takes set-id bits and capabilities away (chown(2)).
func setMeta(where at, h *tar.Header) error {
	if err := setOwner(where, h); err != nil {
		return err
	}
	if err := unix.Fchmodat(where.dir, where.name, uint32(h.Mode)&0o7777, 0); err != nil {
		return err
	}
	return setXattrs(where, h)
}

// maxID is the highest owner; the one above means "leave it" to chown(2).
const maxID = 1<<32 - 2

func setOwner(where at, h *tar.Header) error {
	if h.Uid < 0 || h.Uid > maxID || h.Gid < 0 || h.Gid > maxID {
		return fmt.Errorf("owner %d:%d is none that Linux knows", h.Uid, h.Gid)
	}
	if err := unix.Fchownat(where.dir, where.name, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set owner %d:%d: %w", h.Uid, h.Gid, err)
	}
	return nil
}

// setTime sets the time of the last change and access. One before 1970 is
// taken as its start, as Docker does.
func setTime(where at, t time.Time) error {
	t = latest(t, time.Unix(0, 0))
	stamp := unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
	return unix.UtimesNanoAt(where.dir, where.name, []unix.Timespec{stamp, stamp}, unix.AT_SYMLINK_NOFOLLOW)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// xattrPrefix starts the PAX records that hold extended attributes.
const xattrPrefix = "SCHILY.xattr."

// setXattrs sets those of the archive's attributes that mean the same on any
// host: capabilities, ACLs and the image's own. Others are left out: what is
// trusted.* tells overlayfs to look elsewhere, security.* is this host's policy.
func setXattrs(where at, h *tar.Header) error {
	for record, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(record, xattrPrefix)
		if !ok || !keepXattr(attr) {
			continue
		}
		err := where.setXattr(attr, value)
		if errors.Is(err, unix.EOPNOTSUPP) && attr != capabilityAttr {
			continue // a file system without them: programs bear that, a missing capability they don't
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const capabilityAttr = "security.capability"

func keepXattr(attr string) bool {
	if attr == capabilityAttr || strings.HasPrefix(attr, "system.posix_acl_") {
		return true
	}
	return strings.HasPrefix(attr, "user.") && !strings.HasPrefix(attr, "user.overlay.")
}
