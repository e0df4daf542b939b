package main

import (
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/proc"
)

// room is an OS thread in namespaces of its own. What is started from it is in
// them too, and dies with it where it asks for that.
type room struct {
	jobs chan func()
	done chan struct{}
}

// newRoom makes a room that enter has readied, on its thread.
func newRoom(enter func() error) (*room, error) {
	r := &room{make(chan func()), make(chan struct{})}
	ready := make(chan error)
	go r.live(enter, ready)
	return r, <-ready
}

// live does jobs until the room is closed. Its thread ends with it, so it must
// not be the process's main one.
func (r *room) live(enter func() error, ready chan error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		go r.live(enter, ready) // on another thread: this goroutine keeps the main one
		<-r.done
		runtime.UnlockOSThread()
		return
	}
	defer close(r.done)
	err := enter()
	ready <- err
	if err != nil {
		return
	}
	for job := range r.jobs {
		job()
	}
}

// do runs fn in the room, and waits for it.
func (r *room) do(fn func() error) error {
	result := make(chan error)
	r.jobs <- func() { result <- fn() }
	return <-result
}

func (r *room) close() error {
	close(r.jobs)
	<-r.done
	return nil
}

// enterRoom gives the tools a mount namespace of their own in which cgroup
// version 2 is not mounted beside version 1: crun refuses to work there
// otherwise.
func (b *bench) enterRoom() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep its mounts to itself: %w", err)
	}
	if err := unix.Mount("tmpfs", b.runDir(), "tmpfs", 0, "mode=700"); err != nil { // as /run is
		return fmt.Errorf("mount what the tools keep their state in: %w", err)
	}
	list, err := b.fs.CgroupHierarchies()
	if err != nil {
		return err
	}
	isV2 := func(h proc.CgroupHierarchy) bool { return h.Controllers == nil }
	v2 := slices.IndexFunc(list, isV2)
	if v2 < 0 || len(list) == 1 {
		return nil
	}
	if err := unix.Unmount(list[v2].Dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", list[v2].Dir, err)
	}
	return nil
}
