package box

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// WithRoot calls fn with a folder that shows the layers of an image as a
// container would see them, the uppermost first. They are mounted where only
// fn sees it: in a mount namespace of the one OS thread that it runs on, which
// ends with it. What fn starts on other threads does not see it.
func WithRoot(lower []string, fn func(root string) error) error {
	if len(lower) == 1 {
		return fn(lower[0])
	}
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends here
		if unix.Gettid() == os.Getpid() {
			err = WithRoot(lower, fn) // on another thread: the main one cannot end
			runtime.UnlockOSThread()
			return
		}
		err = mountRoot(lower)
		if err == nil {
			err = fn(lower[0])
		}
	}()
	<-done
	return err
}

// mountRoot mounts layers over the uppermost of them, for this thread alone.
func mountRoot(lower []string) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	base, options, err := overlayOptions(lower, "", "")
	if err != nil {
		return err
	}
	if err := unix.Chdir(base); err != nil {
		return fmt.Errorf("enter %s: %w", base, err)
	}
	if err := unix.Mount("overlay", lower[0], "overlay", unix.MS_RDONLY, options); err != nil {
		return fmt.Errorf("mount %d layers: %w", len(lower), err)
	}
	return nil
}
