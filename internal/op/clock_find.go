package op

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/vdso"
)

// clockMember is a process, and what stands in its vDSO.
type clockMember struct {
	id    experiment.ProcessID
	base  uint64 // where its vDSO begins
	state vdso.State
}

// members returns the processes of the target as they are now, and what stands
// in them. The error is experiment.ErrGone where there are none.
func (c *Clock) members() ([]clockMember, error) {
	ids, err := c.belong()
	if err != nil {
		return nil, err
	}
	var list []clockMember
	for _, id := range ids {
		m, err := c.look(id)
		switch planned := slices.Contains(c.Processes, id); {
		case err == nil:
			list = append(list, m)
		case planned && !errors.Is(err, experiment.ErrGone):
			return nil, err
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("change the clock of %s: %w", c.Name, experiment.ErrGone)
	}
	return list, nil
}

// belong returns the processes that were planned, and those that are in the
// target's own cgroup by now.
func (c *Clock) belong() ([]experiment.ProcessID, error) {
	ids := slices.Clone(c.Processes)
	if c.Cgroup.Path == "" {
		return ids, nil
	}
	if now, err := proc.StatCgroup(c.Cgroup.Path); err != nil || now != c.Cgroup {
		return ids, nil // it went with its processes
	}
	pids, err := c.host.FS.CgroupMembers(c.Cgroup.Path)
	if err != nil {
		return ids, nil
	}
	var more []experiment.ProcessID
	for _, pid := range pids {
		id, err := c.host.FS.Identify(pid)
		if err == nil && !slices.Contains(ids, id) {
			more = append(more, id)
		}
	}
	if len(more) == 0 {
		return ids, nil
	}
	protected, err := c.host.FS.Protected()
	if err != nil {
		return nil, err
	}
	for _, id := range more {
		if protected.Why(id.PID) == "" {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// look reads what stands in a process's vDSO.
func (c *Clock) look(id experiment.ProcessID) (clockMember, error) {
	m, err := openVDSO(c.host.FS, id)
	if err != nil {
		return clockMember{}, clockError(c.Name, id, err)
	}
	defer m.Close()
	state, err := m.Look(c.Image)
	if err != nil && !c.host.FS.Alive(id) {
		err = vdso.ErrGone
	}
	return clockMember{id, m.Base, state}, clockError(c.Name, id, err)
}

// shifted returns the processes of this host that have this shift, or a part of
// it.
func (c *Clock) shifted() ([]experiment.ProcessID, error) {
	dir, err := os.Open(c.host.FS.Proc)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var ids []experiment.ProcessID
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if id, has := c.hasShift(pid); has {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// hasShift tells whether the process has this shift. One that can't be read was
// not changed by this user.
func (c *Clock) hasShift(pid int) (experiment.ProcessID, bool) {
	m, err := vdso.Open(c.host.FS.Proc, pid)
	if errors.Is(err, vdso.ErrNone) {
		m, err = c.openThread(pid)
	}
	if err != nil {
		return experiment.ProcessID{}, false
	}
	defer m.Close()
	if owner, err := m.Owner(c.Image); err != nil || owner != c.ID {
		return experiment.ProcessID{}, false
	}
	id, err := c.host.FS.Identify(pid)
	return id, err == nil
}

// openThread opens the memory of a process whose main thread has exited.
func (c *Clock) openThread(pid int) (vdso.Memory, error) {
	st, err := c.host.FS.Stat(pid)
	if err != nil || st.Kernel() {
		return vdso.Memory{}, vdso.ErrNone
	}
	return openVDSO(c.host.FS, st.ID())
}
