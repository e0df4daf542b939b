package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// machine is one boot of the second kernel.
type machine struct {
	options
	lab lab
	dir string // for its files; the caller removes it
}

// console is where the kernel's messages are written.
func (m machine) console() string { return filepath.Join(m.dir, "console") }

// output is where a command's standard output is written, by a port of its own:
// it is no terminal, and nothing else writes to it.
func (m machine) output() string { return filepath.Join(m.dir, "output") }

// keep moves that to where the user wants it, from a machine that broke too.
func (m machine) keep() error {
	if m.out == "" {
		return nil
	}
	said, err := os.ReadFile(m.output())
	if err != nil {
		return err
	}
	return os.WriteFile(m.out, said, 0o644)
}

// disk is where the machine's /tmp is.
func (m machine) disk() string { return filepath.Join(m.dir, "disk") }

// format makes the disk: a sparse file with an ext4 on it, as memory would not
// do for all tests. tmpfs keeps extended attributes of users from Linux 6.6 on
// only, and a container's layers lie on a disk where there is one.
func (m machine) format(ctx context.Context) error {
	_, err := output(ctx, m.lab.mkfs, "-q", "-F", "-O", "^has_journal", m.disk(), "2G")
	return err
}

// command is QEMU's. A machine that panics ends, as "reboot" ends it.
func (m machine) command(ctx context.Context) *exec.Cmd {
	c := exec.CommandContext(ctx, m.lab.qemu,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-accel", m.accel, "-cpu", "max",
		"-smp", "2", "-m", fmt.Sprint(m.memory),
		"-kernel", m.lab.kernel, "-initrd", m.initramfs(),
		"-append", "console=ttyS0 quiet panic=-1 oops=panic random.trust_cpu=on cgroup_no_v1=all",
		"-drive", "if=virtio,format=raw,cache=unsafe,file="+m.disk(),
		"-chardev", "file,id=console,path="+m.console(), "-serial", "chardev:console",
		"-chardev", "stdio,id=tests,signal=off", "-serial", "chardev:tests")
	if m.out != "" {
		c.Args = append(c.Args, "-device", "virtio-serial",
			"-chardev", "file,id=out,path="+m.output(), "-device", "virtserialport,chardev=out,name=out")
	}
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// boot runs the machine until its end, and hands what it says to the report.
func (m machine) boot(ctx context.Context, r *report) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := m.command(ctx)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	late := time.AfterFunc(m.options.boot, func() { cancel(fmt.Errorf("no test ran within %v", m.options.boot)) })
	for line := range lines(out) {
		r.line(line)
		if r.booted() {
			late.Stop()
		}
	}
	err = c.Wait()
	if ctx.Err() != nil {
		err = fmt.Errorf("end the machine: %w", context.Cause(ctx))
	} else if err != nil {
		err = fmt.Errorf("run QEMU: %w\n%s", err, stderr.String())
	}
	return errors.Join(err, m.oops(err != nil))
}

// lines yields what the machine prints; a line may be of any length.
func lines(r io.Reader) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		b := bufio.NewReaderSize(r, 1<<16)
		for {
			line, err := b.ReadString('\n')
			if line != "" && !yield(strings.TrimRight(line, "\r\n")) || err != nil {
				return
			}
		}
	}
}

// trouble is how the kernel begins to say that something is broken in it.
var trouble = regexp.MustCompile(`Kernel panic|BUG:|WARNING:|Oops|general protection|Call Trace|hung_task|blocked for more than|soft lockup|Out of memory and no killable|Failed to execute`)

// oops is what the kernel says of trouble in itself, or, of a machine that came
// to a bad end, the last it said.
func (m machine) oops(bad bool) error {
	text, err := os.ReadFile(m.console())
	if err != nil {
		return err
	}
	said := string(text)
	if where := trouble.FindStringIndex(said); where != nil {
		return errors.New("the kernel says:\n" + strings.TrimSpace(said[where[0]:]))
	}
	if said = strings.TrimSpace(said); bad && said != "" {
		all := strings.Split(said, "\n")
		return errors.New("the kernel says last:\n" + strings.Join(all[max(0, len(all)-20):], "\n"))
	}
	return nil
}
