package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"github.com/simianhq/simian/experiment"
)

// scopeTimeout is how long systemd may take to make a scope.
const scopeTimeout = time.Second

// place moves the guardian out of what its runner could be killed with. It
// returns where it stands, and what it would not outlive.
func (g Guard) place(ctx context.Context, run experiment.RunID, pid int) (place, warning string) {
	var warnings []string
	scope, err := scope(ctx, run, pid)
	switch {
	case err == nil:
		place = scope
	case !errors.Is(err, errNoSystemd):
		warnings = append(warnings, "systemd made no scope for it: "+err.Error())
	}
	if place == "" {
		place, err = g.topmost(pid)
		if err != nil {
			warnings = append(warnings, "it shares the runner's cgroup, and would be killed with it: "+err.Error())
		}
	}
	if initial, err := g.FS.InitialPIDNamespace(); err == nil && !initial {
		warnings = append(warnings, "it cannot outlive PID 1 of this PID namespace")
	}
	return place, strings.Join(warnings, "; ")
}

var errNoSystemd = errors.New("systemd does not run here")

// Systemd tells whether systemd manages this host (sd_booted(3)).
func Systemd() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// scope asks systemd for a scope with the guardian in it
// (org.freedesktop.systemd1(5), StartTransientUnit).
func scope(ctx context.Context, run experiment.RunID, pid int) (string, error) {
	if !Systemd() {
		return "", errNoSystemd
	}
	ctx, cancel := context.WithTimeout(ctx, scopeTimeout)
	defer cancel()
	connect := dbus.NewUserConnectionContext
	if os.Geteuid() == 0 {
		connect = dbus.NewSystemdConnectionContext // its private socket: there may be no D-Bus daemon
	}
	conn, err := connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	name := "simian-guardian-" + string(run) + ".scope"
	done := make(chan string, 1)
	if _, err := conn.StartTransientUnitContext(ctx, name, "fail", []dbus.Property{
		dbus.PropDescription("takes back run " + string(run) + " of simian when its runner dies"),
		dbus.PropPids(uint32(pid)),
		{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")},
	}, done); err != nil {
		return "", err
	}
	select {
	case result := <-done:
		if result != "done" {
			return "", fmt.Errorf("the job ended with %q", result)
		}
		return name, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// topmost moves the guardian into the topmost cgroup of each hierarchy: it is
// there already, and nothing has to be made or removed. A move makes the kernel
// wait for all of its processors, so it is made only where there is need.
func (g Guard) topmost(pid int) (string, error) {
	roots, err1 := g.FS.CgroupRoots()
	now, err2 := g.FS.Cgroup(pid)
	if err := errors.Join(err1, err2); err != nil {
		return "the runner's cgroup", err
	}
	there := map[string]bool{now.V2.Path: true}
	for _, dir := range now.V1 {
		there[dir.Path] = true
	}
	var errs []error
	for _, dir := range roots {
		if !there[dir] {
			errs = append(errs, move(filepath.Join(dir, "cgroup.procs"), pid))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return "the runner's cgroup", err
	}
	return "the topmost cgroup", nil
}

func move(file string, pid int) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(strconv.Itoa(pid))
	return err
}
