package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	cerrdefs "github.com/containerd/errdefs"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
)

// What a container of containerd is given to end: all of it lies within the
// time that one change may take, since containerd itself knows no grace.
const (
	containerdGrace = 5 * time.Second
	longestGrace    = 8 * time.Second
)

// checkStop says why a container can't be held down through containerd.
func (c *Containerd) checkStop(ctx context.Context, r experiment.RuntimeRef, how Stopping, name string) error {
	now, err := c.Inspect(ctx, r)
	if err != nil {
		return err
	}
	switch {
	case now.Ref.NoStart != "":
		return fmt.Errorf("stop %s: %s, which would not let it lie, or not have it back: %w", name, now.Ref.NoStart, experiment.ErrUnsupported)
	case now.Ref.Restart != "no":
		return fmt.Errorf("stop %s: containerd's restart monitor (containerd.io/restart.policy) would start it again: kill leans on that: %w", name, experiment.ErrUnsupported)
	case how.Grace != nil && *how.Grace > longestGrace:
		return fmt.Errorf("stop %s: a grace of %s is too long, since containerd knows none: %s at the most: %w", name, *how.Grace, longestGrace, experiment.ErrUnsupported)
	}
	return nil
}

// Stop implements daemon: a signal, a grace, SIGKILL. What is left of the task
// is deleted, so that the container can be started again.
func (c *Containerd) Stop(ctx context.Context, r experiment.RuntimeRef, how Stopping) error {
	t, ctx, err := c.task(ctx, r)
	if err != nil {
		return err
	}
	grace, signal := containerdGrace, how.Signal
	if how.Grace != nil {
		grace = *how.Grace
	}
	if signal == "" {
		signal = "TERM"
	}
	ended, err := t.Wait(ctx)
	if err != nil {
		return c.explain(err)
	}
	if err := t.Kill(ctx, op.SignalNumber(signal)); err != nil && !cerrdefs.IsNotFound(err) {
		return c.explain(err)
	}
	select {
	case <-ended:
	case <-time.After(grace):
		if err := t.Kill(ctx, op.SignalNumber("KILL")); err != nil && !cerrdefs.IsNotFound(err) {
			return c.explain(err)
		}
		<-ended
	}
	_, err = t.Delete(ctx)
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	return c.explain(err)
}

func (c *Containerd) task(ctx context.Context, r experiment.RuntimeRef) (client.Task, context.Context, error) {
	made, err := c.connect(ctx)
	if err != nil {
		return nil, ctx, err
	}
	ctx = namespaces.WithNamespace(ctx, r.Namespace)
	one, err := made.LoadContainer(ctx, r.ID)
	if err != nil {
		return nil, ctx, c.explain(err)
	}
	t, err := one.Task(ctx, nil)
	return t, ctx, c.explain(err)
}

// Start implements daemon. What the container writes goes where its labels say,
// as nerdctl's and the restart monitor's do, else nowhere: who read it before
// has gone.
func (c *Containerd) Start(ctx context.Context, r experiment.RuntimeRef) error {
	old, _, err := c.task(ctx, r)
	switch {
	case err == nil:
		if _, err := old.Delete(namespaces.WithNamespace(ctx, r.Namespace)); err != nil && !cerrdefs.IsNotFound(err) {
			return c.explain(err)
		}
	case !errors.Is(err, experiment.ErrGone):
		return err
	}
	made, err := c.connect(ctx)
	if err != nil {
		return err
	}
	ctx = namespaces.WithNamespace(ctx, r.Namespace)
	one, err := made.LoadContainer(ctx, r.ID)
	if err != nil {
		return c.explain(err)
	}
	labels, err := one.Labels(ctx)
	if err != nil {
		return c.explain(err)
	}
	t, err := one.NewTask(ctx, output(labels))
	if err != nil {
		return c.explain(err)
	}
	return c.explain(t.Start(ctx))
}

// output is where a container's output goes, by its labels.
func output(labels map[string]string) cio.Creator {
	for _, label := range []string{"nerdctl/log-uri", "containerd.io/restart.loguri"} {
		if u, err := url.Parse(labels[label]); err == nil && labels[label] != "" {
			return cio.LogURI(u)
		}
	}
	return cio.NullIO
}
