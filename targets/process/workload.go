package process

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// workload names what a process started in the place of this one would be of
// too. That is its service; a scope is made anew by whoever starts something,
// so there it is the program with its arguments. The arguments may hold a
// secret, and the name stands in journals: it has a digest of them.
func (p *Process) workload(pid int, unit string) string {
	if strings.HasSuffix(unit, ".service") {
		return unit
	}
	args, _ := p.fs.Cmdline(pid)
	exe, err := p.fs.Exe(pid)
	if err != nil && len(args) > 0 {
		exe = args[0]
	}
	rest := args[min(1, len(args)):]
	sum := sha256.Sum256([]byte(strings.Join(rest, "\x00")))
	return strings.TrimSuffix(exe, " (deleted)") + "#" + hex.EncodeToString(sum[:4])
}

// ByIdentity tells whether the process is selected by its pid: one started in
// its place has another.
func (p *Process) ByIdentity() bool { return p.PID != 0 }

// Running counts the processes of a workload on this host.
func (p *Process) Running(ctx context.Context, workload string) (int, error) {
	n := 0
	pids, err := p.fs.PIDs()
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		st, err := p.fs.Stat(pid)
		switch {
		case errors.Is(err, experiment.ErrGone):
			continue
		case err != nil:
			return 0, err
		case st.Kernel() || st.Exited():
			continue
		}
		if p.workload(pid, p.unitOf(pid)) != workload {
			continue
		}
		if !p.fs.Settle(st) || p.workload(pid, p.unitOf(pid)) == workload {
			n++
		}
	}
	return n, nil
}

// unitOf returns the systemd unit that a process is in, or "".
func (p *Process) unitOf(pid int) string {
	paths, err := p.fs.CgroupPaths(pid)
	if err != nil {
		return ""
	}
	return cmp.Or(lastUnit(paths["systemd"]), lastUnit(paths[""]))
}
