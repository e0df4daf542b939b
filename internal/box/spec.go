package box

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Spec is a container as it is to be launched.
type Spec struct {
	Name     string // for errors
	Hostname string // "" keeps the host's

	Args []string // what is executed; Args[0] is searched for in $PATH as a shell does
	Env  []string // NAME=value; HOME and PATH are added where they are missing, as Docker does
	Dir  string   // where it starts, "" is /; made where it is missing
	User string   // name or uid, or either with :group or :gid, by the container's own /etc/passwd and /etc/group; "" is root

	Lower    []string // overlay's layers, absolute folders, the uppermost first
	Upper    string   // where it writes; "" for a container that is ReadOnly. fsync(2) there does not wait for the disk
	Work     string   // overlay's work folder, on Upper's file system
	ReadOnly bool     // the root is; Mounts have their own
	Mounts   []Mount  // in this order

	Net    *os.File // a network namespace to join; nil is the host's
	Cgroup *Cgroup  // joined before anything else happens; nil is the launcher's

	Caps       []string          // the only capabilities it can ever have, with or without CAP_
	Seccomp    []unix.SockFilter // nil is without
	NoNewPrivs bool
	Init       bool // a reaper is PID 1, and the command is its child

	Sysctls  map[string]string // those of its own namespaces: kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.*, net.*
	Ulimits  []Ulimit
	ShmBytes int64  // size of /dev/shm; 0 is 64 MiB
	UserNS   *IDMap // nil: its root is the host's root, with fewer capabilities

	Clocks Clocks // how far its clocks are from the host's
}

// Clocks are how far the clocks of a time namespace are from the host's
// (time_namespaces(7)). The time of day is the same in all of them.
type Clocks struct {
	Monotonic, Boottime time.Duration
}

// Mount is one thing mounted into a container.
type Mount struct {
	Type        string // bind or tmpfs
	Source      string // of a bind: an absolute path on the host, file or folder
	Target      string // absolute; made where it is missing; links in it stay inside the container
	ReadOnly    bool
	Recursive   bool     // a bind with what is mounted below
	Propagation string   // of a bind: private (also ""), rprivate, slave, rslave
	SizeBytes   int64    // of a tmpfs; 0 is half of memory
	Mode        uint32   // of a tmpfs; 0 is 01777
	Options     []string // of a tmpfs: noexec, nosuid, nodev (these three are its default), exec, suid, dev, uid=…, gid=…
}

// IDMap is the range of the host's users and groups that a container's are.
type IDMap struct {
	HostID uint32 // its root on the host
	Size   uint32 // how many there are
}

// Stdio are the standard streams of a process; nil is /dev/null.
type Stdio struct{ In, Out, Err *os.File }

// ExecSpec is a further process in a running container.
type ExecSpec struct {
	Args []string // as in Spec
	Env  []string
	Dir  string // must be there
	User string

	Caps       []string
	Seccomp    []unix.SockFilter
	NoNewPrivs bool
	Ulimits    []Ulimit
	TTY        bool    // Stdio.In is a terminal, and becomes its controlling one
	Cgroup     *Cgroup // nil is the container's
}
