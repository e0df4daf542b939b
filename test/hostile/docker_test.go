package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDocker holds Docker's outcomes, beside which ours stand. They are those
// of the version that Debian 12 has; Docker forbids more since.
func TestDocker(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can look whether the host was harmed")
	}
	version, err := exec.Command("docker", "version", "--format", "{{.Server.Version}}").Output()
	if err != nil {
		t.Skip("no Docker daemon answers")
	}
	if !*update && !strings.HasPrefix(string(version), dockerVersion) {
		t.Skipf("Docker is %s, and the outcomes are those of %s", strings.TrimSpace(string(version)), dockerVersion)
	}
	img := image(t)
	d := &docker{name: fmt.Sprintf("simian-hostile-%d", os.Getpid())}
	d.image = d.importFolder(t, img)
	holdGolden(t, "testdata/docker.golden", attackWith(t, d, img))
}

const dockerVersion = "20.10."

// docker launches by Docker's command.
type docker struct {
	name, image string
	n           int
}

// importFolder makes an image of a folder.
func (d *docker) importFolder(t *testing.T, dir string) string {
	t.Helper()
	d.n++
	ref := fmt.Sprintf("%s:%d", d.name, d.n)
	pack := exec.Command("tar", "-C", dir, "-c", ".")
	load := exec.Command("docker", "import", "-", ref)
	var err error
	if load.Stdin, err = pack.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := pack.Start(); err != nil {
		t.Fatal(err)
	}
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("import: %v\n%s", err, out)
	}
	if err := pack.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "--force", ref).Run() })
	return ref
}

func (d *docker) start(t *testing.T, c container) (running, error) {
	t.Helper()
	ref := d.image
	if c.root != "" {
		ref = d.importFolder(t, c.root)
	}
	d.n++
	r := &dockerContainer{t: t, name: fmt.Sprintf("%s-%d", d.name, d.n)}
	create := exec.Command("docker", append(append(r.options(c), ref), c.args...)...)
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "--force", "--volumes", r.name).Run() })
	if out, err := create.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("create: %w: %s", err, out)
	}
	r.cmd = exec.Command("docker", "start", "--attach", "--interactive", r.name)
	r.cmd.Stderr = &r.errors
	if err := r.pipes(c.in); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return r, r.settled()
}

// options are those of docker create.
func (r *dockerContainer) options(c container) []string {
	o := []string{"create", "--name", r.name, "--memory", strconv.FormatInt(c.memory, 10), "--memory-swap", strconv.FormatInt(c.memory, 10)}
	if c.in {
		o = append(o, "--interactive")
	}
	if c.dir != "" {
		o = append(o, "--workdir", c.dir)
	}
	if c.pids != 0 {
		o = append(o, "--pids-limit", strconv.FormatInt(c.pids, 10))
	}
	if c.files != 0 {
		o = append(o, "--ulimit", fmt.Sprintf("nofile=%d:%d", c.files, c.files))
	}
	scratch := "/scratch"
	if c.scratch != 0 {
		scratch = fmt.Sprintf("/scratch:size=%d", c.scratch)
	}
	o = append(o, "--tmpfs", scratch)
	if c.vol != "" {
		o = append(o, "--volume", c.vol+":"+volume)
	}
	for _, e := range c.env {
		o = append(o, "--env", e)
	}
	return o
}

// exec runs the command; what becomes of it is not the question.
func (d *docker) exec(t *testing.T, r running, args ...string) {
	t.Helper()
	name := r.(*dockerContainer).name
	out, err := exec.Command("docker", append([]string{"exec", name}, args...)...).CombinedOutput()
	t.Logf("exec %v: %v %.80s", args, err, out)
}

type dockerContainer struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	errors bytes.Buffer
}

func (r *dockerContainer) pipes(in bool) (err error) {
	if in {
		if r.in, err = r.cmd.StdinPipe(); err != nil {
			return err
		}
	}
	out, err := r.cmd.StdoutPipe()
	r.out = bufio.NewReader(out)
	return err
}

// settled waits until it runs, or has, or can't.
func (r *dockerContainer) settled() error {
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		switch state := r.inspect("{{.State.Status}} {{.State.Error}}"); {
		case strings.HasPrefix(state, "running"), state == "exited":
			return nil
		case strings.HasPrefix(state, "created") && state != "created", strings.HasPrefix(state, "exited"):
			_ = r.cmd.Wait()
			return fmt.Errorf("start: %s", state)
		}
	}
	return fmt.Errorf("start: it never ran: %s", r.errors.String())
}

func (r *dockerContainer) inspect(format string) string {
	out, _ := exec.Command("docker", "inspect", "--format", format, r.name).Output()
	return strings.TrimSpace(string(out))
}

func (r *dockerContainer) ask(line string) string {
	fmt.Fprintln(r.in, line)
	answer, _ := r.out.ReadString('\n')
	return strings.TrimSpace(answer)
}

func (r *dockerContainer) wait() (out, end string) {
	text, _ := io.ReadAll(r.out)
	_ = r.cmd.Wait()
	for r.inspect("{{.State.Running}}") == "true" {
		time.Sleep(10 * time.Millisecond)
	}
	return string(text), r.ended()
}

// ended says how it ended. Docker learns that it was out of memory from another
// event, which may come after that of its end.
func (r *dockerContainer) ended() (end string) {
	for range 40 {
		if end = r.inspect("exit {{.State.ExitCode}}{{if .State.OOMKilled}} oom{{end}}"); end == "exit 137 oom" {
			return "out of memory"
		}
		if end != "exit 137" {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return end
}
