package op

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/queue"
)

// heldQueue is a helper that this process has started.
type heldQueue struct {
	conn   *os.File // the control socket
	client *queue.Client
	exited chan struct{} // closed when the helper has ended
	state  string        // how, then
}

func (h *heldQueue) alive() bool {
	select {
	case <-h.exited:
		return false
	default:
		return true
	}
}

// Close implements io.Closer: without its socket the helper ends.
func (h *heldQueue) Close() error { return h.conn.Close() }

// start makes devices, helper and rules. Until the rules are there, no packet
// is touched; where anything fails, nothing is left.
func (q *Queue) start(ctx context.Context) error {
	if old := q.host.drop(q.Cgroup()); old != nil { // it has died
		_ = old.Close()
	}
	held, err := q.assemble()
	if err == nil {
		err = q.rule(held)
	}
	if err == nil {
		q.host.hold(q.Cgroup(), held)
		return nil
	}
	if held != nil {
		_ = held.Close()
	}
	if bad := q.end(ctx); !errors.Is(bad, experiment.ErrGone) {
		err = errors.Join(err, bad)
	}
	return err
}

// assemble starts the helper, makes the devices while it comes up, and gives
// them to it: it alone has them then.
func (q *Queue) assemble() (*heldQueue, error) {
	var held *heldQueue
	launched := make(chan error, 1)
	go func() {
		var err error
		held, err = q.launch()
		launched <- err
	}()
	var devices []*device
	rules := -1
	err := q.host.FS.InNetwork(q.Net, func() (err error) {
		devices, rules, err = q.open()
		return err
	})
	defer func() {
		closeDevices(devices)
		_ = unix.Close(rules)
	}()
	if err = errors.Join(err, <-launched); err != nil {
		return held, err
	}
	order, files := q.order(devices, rules)
	if held.client, err = queue.NewClient(held.conn, order, files); err != nil {
		err = fmt.Errorf("give the queue's helper its order: %w", err)
	}
	return held, err
}

// open makes what must be made in the target's network namespace.
func (q *Queue) open() (devices []*device, rules int, err error) {
	for _, l := range q.lanes() {
		d, err := q.openDevice(l)
		if err != nil {
			return devices, -1, err
		}
		devices = append(devices, d)
	}
	rules, err = openNft()
	return devices, rules, err
}

func closeDevices(devices []*device) {
	for _, d := range devices {
		d.close()
	}
}

// order is what the helper is told, and the files that come with it. The
// socket for the rules must be the last: see queue.Control.
func (q *Queue) order(devices []*device, rules int) (queue.Order, []int) {
	o := queue.Order{Impair: q.Impair, Seed: q.Seed, Limit: q.Limit, Network: q.Net.Inode}
	var files []int
	for _, d := range devices {
		l, more := d.order(len(files))
		o.Lanes = append(o.Lanes, l)
		files = append(files, more...)
	}
	o.NFT = len(files)
	return o, append(files, rules)
}

// rule makes the table, through the helper.
func (q *Queue) rule(held *heldQueue) error {
	var messages []nftMessage
	err := q.host.FS.InNetwork(q.Net, func() error {
		t, err := q.table().resolved()
		if err == nil {
			messages, err = t.compile()
		}
		return err
	})
	if err == nil {
		err = held.batch(messages)
	}
	if err != nil {
		return fmt.Errorf("make nft table %s: %w", q.Table(), err)
	}
	return nil
}

// launch starts the helper in its cgroup.
func (q *Queue) launch() (*heldQueue, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()
	_ = unix.SetNonblock(pair[0], true) // so that it can have deadlines
	held := &heldQueue{conn: os.NewFile(uintptr(pair[0]), "control"), exited: make(chan struct{})}
	dir, v2, err := q.makeCgroup()
	if err != nil {
		return nil, errors.Join(err, held.Close())
	}
	defer dir.Close()
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{queue.HelperName}, Env: []string{"GOTRACEBACK=none"},
		Dir: "/", ExtraFiles: []*os.File{theirs}, SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if v2 {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the queue's helper: %w", err), held.Close())
	}
	go func() {
		_ = cmd.Wait()
		held.state = cmd.ProcessState.String()
		close(held.exited)
	}()
	if !v2 {
		err = writeAt(int(dir.Fd()), "cgroup.procs", fmt.Sprint(cmd.Process.Pid))
	}
	return held, err
}

// makeCgroup makes the helper's cgroup, by which anybody can find and end it:
// one of version 2, into which it is born, or else one of version 1, whichever
// is there.
func (q *Queue) makeCgroup() (dir *os.File, v2 bool, err error) {
	roots, v2, err := q.cgroupRoots()
	if err != nil {
		return nil, false, err
	}
	path := filepath.Join(roots[0], q.Cgroup())
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, false, fmt.Errorf("make the helper's cgroup: %w", err)
	}
	dir, err = os.Open(path)
	return dir, v2, err
}

// cgroupRoots lists where the helper's cgroup may be, the best first, and
// tells whether that is of version 2.
func (q *Queue) cgroupRoots() (roots []string, v2 bool, err error) {
	list, err := q.host.FS.CgroupHierarchies()
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
		return nil, false, fmt.Errorf("find a cgroup hierarchy for the queue's helper: none is mounted: %w", experiment.ErrUnsupported)
	}
	return roots, v2, nil
}
