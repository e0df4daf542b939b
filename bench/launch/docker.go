package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// serviceTime is how long a daemon may take to answer, or to end.
const serviceTime = 30 * time.Second

// docker is docker run: against daemons of this benchmark's own, in a network
// namespace of their own, so that nothing of the host changes.
func (b *bench) docker(ctx context.Context, path string) (tool, error) {
	d := &daemons{bench: b, dir: filepath.Join(b.dir, "docker"), socket: "unix://" + filepath.Join(b.dir, "docker.sock")}
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	image := b.name + ":first"
	if err := d.load(ctx, path, image); err != nil {
		return nil, err
	}
	l := limits()
	return &command{b, "docker", func(_ int, mode string) []string {
		return []string{
			path, "--host", d.socket, "run", "--rm", "--interactive", "--network", "bridge",
			"--cpus", fmt.Sprint(l.CPUs), "--memory", fmt.Sprint(l.MemoryBytes), "--pids-limit", fmt.Sprint(l.Pids),
			"--security-opt", "no-new-privileges", image, program, mode,
		}
	}}, nil
}

// daemons are a containerd and a dockerd.
type daemons struct {
	*bench
	dir    string
	socket string
}

func (d *daemons) start(ctx context.Context) error {
	if err := os.MkdirAll(d.dir, 0o711); err != nil {
		return err
	}
	r, err := newRoom(d.isolate)
	if err != nil {
		return err
	}
	d.closers = append(d.closers, r.close)
	containerd := filepath.Join(d.dir, "containerd.sock")
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
		filepath.Join(d.dir, "containerd"), filepath.Join(d.dir, "containerd-run"), containerd)
	if err := d.write("containerd.toml", config); err != nil {
		return err
	}
	if err := d.write("daemon.json", "{}"); err != nil {
		return err
	}
	if err := d.daemon(r, "containerd", "--config", filepath.Join(d.dir, "containerd.toml")); err != nil {
		return err
	}
	if err := await(ctx, "containerd", func() error { _, err := os.Stat(containerd); return err }); err != nil {
		return err
	}
	return d.daemon(r, "dockerd", "--config-file", filepath.Join(d.dir, "daemon.json"), "--host", d.socket, "--containerd", containerd,
		"--data-root", filepath.Join(d.dir, "data"), "--exec-root", filepath.Join(d.dir, "exec"),
		"--pidfile", filepath.Join(d.dir, "dockerd.pid"), "--cgroup-parent", "/"+d.name+"/docker")
}

func (d *daemons) write(name, text string) error {
	return os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600)
}

// isolate readies the room of the daemons.
func (d *daemons) isolate() error {
	if err := d.enterRoom(); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// daemon starts a daemon, which is told to end when the benchmark is done.
func (d *daemons) daemon(r *room, name string, args ...string) error {
	log, err := os.Create(filepath.Join(d.dir, name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGTERM}
	if err := r.do(cmd.Start); err != nil {
		return err
	}
	d.closers = append(d.closers, func() error { return end(cmd) })
	return nil
}

// end asks a daemon to end, and waits for it.
func end(cmd *exec.Cmd) error {
	_ = cmd.Process.Signal(unix.SIGTERM)
	late := time.AfterFunc(serviceTime, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}

// load makes an image of the root folder, once the daemon answers.
func (d *daemons) load(ctx context.Context, path, image string) error {
	err := await(ctx, "dockerd", func() error {
		return exec.CommandContext(ctx, path, "--host", d.socket, "version").Run()
	})
	if err != nil {
		return err
	}
	pack := exec.CommandContext(ctx, "tar", "-C", d.rootfs, "-c", ".")
	load := exec.CommandContext(ctx, path, "--host", d.socket, "import", "-", image)
	if load.Stdin, err = pack.StdoutPipe(); err != nil {
		return err
	}
	if err := pack.Start(); err != nil {
		return err
	}
	if out, err := load.CombinedOutput(); err != nil {
		return fmt.Errorf("import: %w: %s", err, out)
	}
	return pack.Wait()
}

// await tries until it succeeds.
func await(ctx context.Context, what string, try func() error) error {
	for end := time.Now().Add(serviceTime); ; {
		err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return fmt.Errorf("wait for %s: %w", what, errors.Join(err, ctx.Err()))
		}
		time.Sleep(5 * time.Millisecond)
	}
}
