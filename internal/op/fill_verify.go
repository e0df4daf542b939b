package op

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Verify implements experiment.Verifier: the files are there with all their
// blocks, and the file system says that so much less is free.
func (f *Fill) Verify(context.Context) (experiment.Evidence, error) {
	if !f.Present {
		return f.verifyGone()
	}
	held := f.held()
	if held == nil {
		return experiment.Evidence{What: "nothing of " + f.Path + " is taken by this process"}, nil
	}
	dir, err := f.open()
	if err != nil {
		return experiment.Evidence{}, err
	}
	defer dir.Close()
	now, err := spaceOf(dir)
	if err != nil {
		return experiment.Evidence{}, err
	}
	e := experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: f.words(held, now)}
	switch {
	case held.named && !held.linked():
		e.InForce, e.Hint = false, "somebody has removed "+f.Name()
	case held.bytes() < held.want/10*9:
		e.InForce, e.Hint = false, "the file system gives "+size(held.want)+" without taking as much: it makes files smaller, or only promises"
	default:
		e = f.freed(e, held, now)
	}
	return e, nil
}

// freed takes it for not in force where a level does not hold any longer.
func (f *Fill) freed(e experiment.Evidence, held *heldSpace, now space) experiment.Evidence {
	const slack = 1 // percent
	more, was := now.inUse(), held.after.inUse()
	if f.ofInodes() {
		more, was = now.inodesInUse(), held.after.inodesInUse()
	}
	if (f.Percent > 0 || f.InodesPercent > 0) && more < was-slack {
		e.InForce = false
		e.Hint = fmt.Sprintf("somebody freed space meanwhile: %.1f %% was in use", was)
	}
	return e
}

// words gives "/data: 1.2 GiB free of 10 GiB, was 9.8 GiB".
func (f *Fill) words(held *heldSpace, now space) string {
	if f.ofInodes() {
		return fmt.Sprintf("%s: %d inodes free of %d, was %d", f.Path, now.freeInodes, now.inodes, held.before.freeInodes)
	}
	return fmt.Sprintf("%s: %s, was %s", f.Path, now, size(held.before.free))
}

// linked tells whether the file still has its name.
func (h *heldSpace) linked() bool {
	for _, file := range h.files {
		var st unix.Stat_t
		if err := unix.Fstat(int(file.Fd()), &st); err != nil || st.Nlink == 0 {
			return false
		}
	}
	return true
}

// bytes is how much the files take.
func (h *heldSpace) bytes() int64 {
	var sum int64
	for _, file := range h.files {
		var st unix.Stat_t
		if unix.Fstat(int(file.Fd()), &st) == nil {
			sum += st.Blocks * 512
		}
	}
	return sum
}

func (f *Fill) verifyGone() (experiment.Evidence, error) {
	if held := f.held(); held != nil {
		return experiment.Evidence{What: "this process holds what was taken of " + f.Path}, nil
	}
	dir, err := f.find()
	if err != nil {
		return experiment.Evidence{}, err
	}
	defer dir.Close()
	var st unix.Stat_t
	err = unix.Fstatat(int(dir.Fd()), f.Name(), &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil:
		return experiment.Evidence{What: f.Path + "/" + f.Name() + " is there"}, nil
	case !errors.Is(err, unix.ENOENT):
		return experiment.Evidence{}, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	now, err := spaceOf(dir)
	return experiment.Evidence{InForce: err == nil, What: fmt.Sprintf("%s: %s", f.Path, now)}, err
}
