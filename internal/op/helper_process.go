package op

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/helper"
	"github.com/simianhq/simian/internal/proc"
)

// helperProcess is a helper as it is to be started: this binary under another
// name (internal/helper, internal/stage).
type helperProcess struct {
	program string                 // argv[0], by which internal/stage knows what it does
	cgroup  string                 // the name of its cgroup, by which anybody can find and end it
	counts  []experiment.CgroupDir // a child cgroup of that name is made in each, so that what it does counts there
	nobody  bool                   // it runs as nobody, without capabilities
	keeps   []uintptr              // but these (CAP_*)
}

// nobody is the user that owns nothing (user_namespaces(7), overflowuid).
const nobody = 65534

// heldHelper is a helper that this process has started.
type heldHelper struct {
	conn   *os.File // the control socket
	client *helper.Client
	exited chan struct{} // closed when it has ended
	state  string        // how, then
}

func (h *heldHelper) alive() bool {
	select {
	case <-h.exited:
		return false
	default:
		return true
	}
}

// Close implements io.Closer: without its socket the helper ends.
func (h *heldHelper) Close() error { return h.conn.Close() }

// endTime is how long a helper that was asked to end may take; then it is
// killed.
const endTime = 200 * time.Millisecond

// end asks, and waits a little.
func (h *heldHelper) end() {
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		if h.client != nil {
			_ = h.client.End()
		}
	}()
	timeout := time.After(endTime)
	select {
	case <-h.exited:
	case <-timeout:
	}
	_ = h.Close()
	<-asked
}

// begin tells the helper what to do. Files stay open here.
func (h *heldHelper) begin(args json.RawMessage, files []int) (err error) {
	if h.client, err = helper.NewClient(h.conn, args, files); err != nil {
		return fmt.Errorf("give the helper its order: %w", err)
	}
	return nil
}

// batch sends messages through a helper that owns a netlink socket, and names
// the one that the kernel does not take.
func (h *heldHelper) batch(messages []nftMessage) error {
	answer, err := h.client.Call(nftBatch(messages))
	if err == nil {
		err = helper.Refusal(answer)
	}
	if bad, ok := errors.AsType[*helper.BatchError](err); ok {
		err = explain(&nftError{int(bad.Sequence), bad.Errno}, messages)
	}
	return err
}

// launch starts the helper in its cgroup. It waits to be told what to do.
// Called in another namespace (proc.FS.InNetwork), it is started there.
func (p helperProcess) launch(fs proc.FS) (*heldHelper, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()
	_ = unix.SetNonblock(pair[0], true) // so that it can have deadlines
	held := &heldHelper{conn: os.NewFile(uintptr(pair[0]), "control"), exited: make(chan struct{})}
	dirs, v2, err := p.makeCgroups(fs)
	defer func() {
		for _, d := range dirs {
			_ = unix.Close(d)
		}
	}()
	if err != nil {
		return nil, errors.Join(err, held.Close())
	}
	cmd := p.command(theirs)
	if v2 >= 0 { // it is born there
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, dirs[v2]
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the helper %s: %w", p.program, err), held.Close())
	}
	go func() {
		_ = cmd.Wait()
		held.state = cmd.ProcessState.String()
		close(held.exited)
	}()
	for i, d := range dirs {
		if i != v2 {
			err = errors.Join(err, writeAt(d, "cgroup.procs", strconv.Itoa(cmd.Process.Pid)))
		}
	}
	if err != nil { // it must not do anything outside of them
		held.end()
		return nil, err
	}
	return held, nil
}

func (p helperProcess) command(control *os.File) *exec.Cmd {
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{p.program}, Env: []string{"GOTRACEBACK=none"},
		Dir: "/", ExtraFiles: []*os.File{control}, SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if p.nobody && os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		cmd.SysProcAttr.AmbientCaps = p.keeps
	}
	return cmd
}

// makeCgroups makes the helper's cgroups and opens them. V2 is the place of
// one of version 2 in the list, -1 where there is none.
func (p helperProcess) makeCgroups(fs proc.FS) (dirs []int, v2 int, err error) {
	v2 = -1
	for _, parent := range p.counts {
		d, err := p.makeBelow(parent)
		if err != nil {
			return dirs, v2, err
		}
		if dirs = append(dirs, d); isCgroup2(d) {
			v2 = len(dirs) - 1
		}
	}
	if v2 >= 0 {
		return dirs, v2, nil
	}
	roots, isV2, err := cgroupRoots(fs)
	if err != nil {
		return dirs, v2, err
	}
	root, err := proc.StatCgroup(roots[0])
	if err != nil {
		return dirs, v2, err
	}
	d, err := p.makeBelow(root)
	if err == nil {
		dirs = append(dirs, d)
	}
	if err == nil && isV2 {
		v2 = len(dirs) - 1
	}
	return dirs, v2, err
}

// makeBelow makes the helper's cgroup below another.
func (p helperProcess) makeBelow(parent experiment.CgroupDir) (int, error) {
	above, err := openCgroup(parent)
	if err != nil {
		return -1, err
	}
	defer unix.Close(above)
	if err := unix.Mkdirat(above, p.cgroup, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, fmt.Errorf("make the helper's cgroup in %s: %w", parent.Path, err)
	}
	d, err := unix.Openat(above, p.cgroup, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the helper's cgroup in %s: %w", parent.Path, err)
	}
	if err := inheritCpuset(above, d); err != nil {
		_ = unix.Close(d)
		return -1, fmt.Errorf("set up the helper's cgroup in %s: %w", parent.Path, err)
	}
	return d, nil
}

// inheritCpuset gives a new cgroup of version 1's cpuset what it needs before
// anything can run in it (cpuset(7)).
func inheritCpuset(above, d int) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		now, err := readAt(d, file)
		if errors.Is(err, os.ErrNotExist) || err == nil && now != "" || isCgroup2(d) {
			continue
		}
		value, err := readAt(above, file)
		if err == nil {
			err = writeAt(d, file, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func isCgroup2(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// places lists where the helper's cgroup may be.
func (p helperProcess) places(fs proc.FS) ([]string, error) {
	var list []string
	for _, parent := range p.counts {
		list = append(list, filepath.Join(parent.Path, p.cgroup))
	}
	roots, _, err := cgroupRoots(fs)
	if errors.Is(err, experiment.ErrUnsupported) {
		err = nil
	}
	for _, root := range roots {
		list = append(list, filepath.Join(root, p.cgroup))
	}
	return list, err
}

// cgroupRoots lists where a helper's cgroup may be, the best first, and tells
// whether that is of version 2.
func cgroupRoots(fs proc.FS) (roots []string, v2 bool, err error) {
	list, err := fs.CgroupHierarchies()
	if err != nil {
		return nil, false, err
	}
	for _, h := range list {
		switch {
		case h.Controllers == nil:
			roots, v2 = append([]string{h.Dir}, roots...), true
		case h.Controllers[0] != "cpuset": // nothing can run there before it has processors and memory
			roots = append(roots, h.Dir)
		}
	}
	if len(roots) == 0 {
		return nil, false, fmt.Errorf("find a cgroup hierarchy for a helper: none is mounted: %w", experiment.ErrUnsupported)
	}
	return roots, v2, nil
}
