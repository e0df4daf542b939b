package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// simian is the binary under test, as a user runs it: with an experiment file
// of one action, ended by an interrupt.
type simian struct {
	*lab
	binary  string
	dir     string // for its state
	called  string
	backend string // what the fault's backend field says; "" leaves it out
}

func (s *simian) name() string { return s.called }

// experiment is the file, as JSON, which is YAML too.
func (s *simian) experiment(f fault) ([]byte, error) {
	spec := map[string]any{"type": "latency", "direction": "egress"}
	for name, d := range map[string]time.Duration{"delay": f.delay, "jitter": f.jitter} {
		if d > 0 {
			spec[name] = d.String()
		}
	}
	if f.distribution != "" {
		spec["distribution"] = f.distribution
	}
	if f.loss > 0 {
		spec["loss"] = f.loss
	}
	if len(f.cidrs) > 0 {
		spec["cidrs"] = f.cidrs
	}
	if s.backend != "" {
		spec["backend"] = s.backend
	}
	return json.Marshal(map[string]any{
		"apiVersion": "simian.dev/v1", "kind": "Experiment",
		"metadata": map[string]any{"name": "bench-latency"},
		"spec": map[string]any{
			"steady": map[string]any{"for": "0s"},
			"method": []any{map[string]any{
				"name": "bad network", "fault": spec, "for": "10m",
				"target": map[string]any{"type": "process", "pid": s.held.Process.Pid},
			}},
			"recovery": map[string]any{"within": "10s"},
		},
	})
}

// start implements backend: it returns as soon as Simian says that the fault
// is in force.
func (s *simian) start(ctx context.Context, f fault) (running, error) {
	file, err := s.experiment(f)
	if err != nil {
		return nil, err
	}
	r := &simianRun{cmd: exec.Command(s.binary, "run", "-", "-o", "json", "--state", s.dir)}
	r.cmd.Stdin, r.cmd.Stdout = bytes.NewReader(file), &r.out
	progress, err := r.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	r.began = time.Now()
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	return r.wait(ctx, progress)
}

// simianRun is one simian run.
type simianRun struct {
	direct
	cmd      *exec.Cmd
	out      bytes.Buffer // its result
	progress bytes.Buffer
	over     chan error // closed after it has ended
	began    time.Time
	said     time.Duration // until it said that the fault is in force
	result   result
}

// result is what is of interest in the result of a run.
type result struct {
	Verdict string   `json:"verdict"`
	Error   string   `json:"error"`
	Reasons []string `json:"reasons"`
	Residue []string `json:"residue"`
	Faults  []struct {
		Backend  string   `json:"backend"`
		Injected bool     `json:"injected"`
		Inject   *float64 `json:"injectSeconds"`
		Missed   string   `json:"missed"`
	} `json:"faults"`
}

// wait reads the progress until the fault is in force, and goes on reading.
func (r *simianRun) wait(ctx context.Context, progress io.Reader) (running, error) {
	inForce := make(chan struct{})
	r.over = make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(progress)
		for lines.Scan() {
			r.progress.WriteString(lines.Text() + "\n")
			if r.said == 0 && strings.Contains(lines.Text(), "in force after") {
				r.said = time.Since(r.began)
				close(inForce)
			}
		}
		r.over <- r.cmd.Wait()
	}()
	select {
	case <-inForce:
		return r, nil
	case err := <-r.over:
		return nil, r.refusal(err)
	case <-ctx.Done():
		_ = r.cmd.Process.Signal(unix.SIGINT)
		<-r.over
		return nil, ctx.Err()
	case <-time.After(time.Minute):
		_ = r.cmd.Process.Signal(unix.SIGINT)
		<-r.over
		return nil, fmt.Errorf("simian: the fault is not in force after a minute:\n%s", r.progress.String())
	}
}

// refusal is why there was no fault.
func (r *simianRun) refusal(err error) error {
	if json.Unmarshal(r.out.Bytes(), &r.result) == nil && r.result.Error != "" {
		return unsupported{r.result.Error}
	}
	why := strings.TrimSpace(r.progress.String())
	for _, f := range r.result.Faults {
		if f.Missed != "" {
			why = f.Missed
		}
	}
	return unsupported{fmt.Sprintf("%v: %s", err, why)}
}

// stop implements running: the interrupt is how an experiment is ended early.
func (r *simianRun) stop() error {
	if err := r.cmd.Process.Signal(unix.SIGINT); err != nil {
		return err
	}
	select {
	case <-r.over: // aborted: the exit code is 3, and that is meant
	case <-time.After(time.Minute):
		return errors.New("simian: still there a minute after SIGINT")
	}
	if err := json.Unmarshal(r.out.Bytes(), &r.result); err != nil {
		return fmt.Errorf("read result of simian: %w\n%s", err, r.progress.String())
	}
	if len(r.result.Residue) > 0 || r.result.Error != "" {
		return fmt.Errorf("simian: %s; left: %s", r.result.Error, strings.Join(r.result.Residue, "; "))
	}
	return nil
}

// inject is how long the fault took from Apply until it was in force, by
// Simian's own measure, and which backend it was.
func (r *simianRun) inject() (seconds float64, backend string) {
	for _, f := range r.result.Faults {
		if f.Inject != nil {
			return *f.Inject, f.Backend
		}
	}
	return 0, ""
}
