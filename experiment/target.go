package experiment

import (
	"fmt"
	"sort"
)

// RunID names a run: six characters of a–z and 2–7, so that it fits into the
// name of a network link (15 bytes).
type RunID string

// Target is something that can be broken, resolved to handles. A zero handle
// is not to be had.
type Target struct {
	Kind     string            `json:"kind"`
	Name     string            `json:"name"`
	ID       string            `json:"id"` // unique on this host, never reused
	Labels   map[string]string `json:"labels,omitempty"`
	Workload string            `json:"workload,omitempty"` // the service, Deployment, job … it is one of
	PIDs     []ProcessID       `json:"pids,omitempty"`     // [0] is its init
	Net      Namespace         `json:"net,omitzero"`
	Mount    Namespace         `json:"mount,omitzero"`
	PID      Namespace         `json:"pid,omitzero"`
	User     Namespace         `json:"user,omitzero"`
	Cgroup   Cgroup            `json:"cgroup,omitzero"`
	Root     string            `json:"root,omitempty"` // /proc/PID/root
	Runtime  *RuntimeRef       `json:"runtime,omitempty"`
	Object   *ObjectRef        `json:"object,omitempty"`

	Unhealthy bool `json:"unhealthy,omitzero"` // it has a health check, and that does not pass
}

// ProcessID is a process by identity: pids are reused, a pid with its start
// time is not.
type ProcessID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, field 22 of proc_pid_stat(5)
}

// String gives "pid 812".
func (p ProcessID) String() string { return fmt.Sprintf("pid %d", p.PID) }

// Handle names the process for a lock.
func (p ProcessID) Handle() string { return fmt.Sprintf("process:%d:%d", p.PID, p.Start) }

// Namespace is how to enter a namespace, and its identity: its inode and a
// process in it, since inodes alone are reused. A network namespace that is
// changed has its cookie too, which no other has until the next boot.
type Namespace struct {
	Inode  uint64    `json:"inode"`
	Via    ProcessID `json:"via"`
	Cookie uint64    `json:"cookie,omitzero"` // SO_NETNS_COOKIE; 0 where it was not asked for, or before Linux 5.14
}

// Handle names a network namespace for a lock.
func (n Namespace) Handle() string { return fmt.Sprintf("net:%d:%d", n.Inode, n.Cookie) }

// Cgroup is where a process stands in the cgroup hierarchies, as directories
// below their mount points. An empty path means that the hierarchy is not
// mounted. On a hybrid host V1 and V2 differ.
type Cgroup struct {
	V2 CgroupDir            `json:"v2,omitzero"`
	V1 map[string]CgroupDir `json:"v1,omitempty"` // by controller: cpu, memory, freezer …
}

// CgroupDir is one cgroup by identity. One that was removed and made again
// has another inode.
type CgroupDir struct {
	Path  string `json:"path"`
	Inode uint64 `json:"inode"`
}

// Handle names the cgroup for a lock.
func (c CgroupDir) Handle() string { return fmt.Sprintf("cgroup:%d:%s", c.Inode, c.Path) }

// RuntimeRef is a container as its runtime knows it.
type RuntimeRef struct {
	Runtime string    `json:"runtime"` // simian, docker, containerd, podman
	ID      string    `json:"id"`
	Started string    `json:"started"`
	Restart string    `json:"restart,omitempty"` // its restart policy
	Lab     string    `json:"lab,omitempty"`     // of simian: the folder of the lab that it is of
	Keeper  ProcessID `json:"keeper,omitzero"`   // of simian: the process that launched it, and keeps it up

	Address   string `json:"address,omitempty"`   // of other runtimes: where it is asked
	Namespace string `json:"namespace,omitempty"` // of containerd
	NoStart   string `json:"noStart,omitempty"`   // why its runtime can't be had to start it again; "" where it can
}

// Handle names the container for a lock, over all its restarts.
func (r RuntimeRef) Handle() string {
	return fmt.Sprintf("container:%s:%s%s:%s", r.Runtime, r.Lab, r.Namespace, r.ID)
}

// ObjectRef is an object of Kubernetes.
type ObjectRef struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
}

// Workloads counts targets by the workload they are one of; those of no
// workload are left out.
func Workloads(targets []Target) map[string]int {
	n := map[string]int{}
	for _, t := range targets {
		if t.Workload != "" {
			n[t.Workload]++
		}
	}
	return n
}

// SortTargets puts targets into the order that selection draws from: by name,
// then by ID.
func SortTargets(targets []Target) {
	sort.Slice(targets, func(i, j int) bool {
		if targets[i].Name != targets[j].Name {
			return targets[i].Name < targets[j].Name
		}
		return targets[i].ID < targets[j].ID
	})
}
