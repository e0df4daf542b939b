// Package native launches the containers that an experiment breaks: a Compose
// file becomes steps. It needs no container engine.
package native

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/simianhq/simian/internal/box"
)

// Project is what Compose files say, read and checked: nothing in it is left
// to be looked up but images.
type Project struct {
	Name     string    // lower-case letters, digits, dashes and underscores
	Dir      string    // absolute: what relative paths start from
	Files    []string  // absolute, in the order given
	Services []Service // that are enabled (profiles), sorted by name
	Networks []Network // that a service is on, sorted by name
	Volumes  []string  // named volumes that a service mounts, sorted

	compose *compose // knows where things stand in the files; nil in tests
}

// Service is one service of a Project.
type Service struct {
	Name     string
	Line     int    // in the file that names it last, 0 where unknown
	Image    string // a reference as internal/image takes it; "" where Rootfs is given
	Rootfs   string // absolute folder, of x-simian: {rootfs: dir}
	Platform string // os/arch[/variant]; "" is this host's
	Pull     string // missing (also where nothing is said), always, never
	Replicas int    // 0 launches none

	Entrypoint []string // nil is the image's
	Command    []string // nil is the image's, unless Entrypoint is given
	Env        []string // NAME=value, sorted; on top of the image's
	Dir        string   // "" is the image's
	User       string   // "" is the image's
	Hostname   string   // "" is the container's name
	Labels     map[string]string

	DependsOn  []Dependency
	Health     *Health // nil is the image's
	Restart    Restart
	StopSignal string        // without SIG; "" is the image's, or else TERM
	StopGrace  time.Duration // before it is killed
	Init       bool          // a reaper stands before it

	Limits     box.Limits
	CapAdd     []string // without CAP_; ALL is allowed
	CapDrop    []string
	NoNewPrivs bool   // true unless security_opt says no-new-privileges:false
	Seccomp    string // "" is the default profile, "unconfined", or an absolute path
	ReadOnly   bool
	UserNS     bool // userns_mode: private
	Sysctls    map[string]string
	Ulimits    []box.Ulimit // sorted by name
	ShmBytes   int64        // 0 is 64 MiB
	Mounts     []Mount      // volumes and tmpfs, in the order of the file
	Networks   []Attachment
	ExtraHosts []string // "name address" lines for /etc/hosts, sorted
	DNS        []netip.Addr
	Ports      []Port
}

// Dependency is one entry of depends_on.
type Dependency struct {
	Service   string
	Condition string // service_started, service_healthy, service_completed_successfully
	Required  bool
	Restart   bool // restarted when the other is restarted by hand
}

// Health is a health check (Dockerfile HEALTHCHECK).
type Health struct {
	Test          []string // what is executed: {"CMD", …} or {"CMD-SHELL", line}; {"NONE"} is none
	Interval      time.Duration
	Timeout       time.Duration
	StartPeriod   time.Duration
	StartInterval time.Duration
	Retries       int
}

// Restart is a restart policy.
type Restart struct {
	Policy      string        // no, always, unless-stopped, on-failure
	MaxAttempts int           // of on-failure; 0 is without end
	Delay       time.Duration // before the first; 0 is 100 ms, doubled each time up to a minute
	Window      time.Duration // up for so long, and the delay starts over; 0 is 10 s
}

// Mount is one thing mounted into a container.
type Mount struct {
	Type        string // bind, volume, tmpfs
	Source      string // bind: absolute path; volume: its name, "" is an anonymous one; tmpfs: ""
	Target      string // absolute path in the container
	ReadOnly    bool
	Create      bool     // bind: make the source where it is not there
	Propagation string   // bind: private (also where nothing is said), rprivate, slave, rslave
	Recursive   bool     // bind: with what is mounted below
	NoCopy      bool     // volume: do not fill a new one with what the image has there
	SizeBytes   int64    // tmpfs; 0 is half of memory
	Mode        uint32   // tmpfs permissions; 0 is 01777
	Options     []string // tmpfs: noexec, nosuid, nodev, exec, suid, dev, uid=…, gid=…
}

// Attachment is a service on a network.
type Attachment struct {
	Network string
	Aliases []string
	Address netip.Addr // ipv4_address; zero is chosen
}

// Network is one network of a Project.
type Network struct {
	Name    string
	Subnet  netip.Prefix // zero is chosen
	Gateway netip.Addr   // zero is the subnet's first
}

// Port is a port published on the host.
type Port struct {
	HostIP        netip.Addr // loopback unless the file says otherwise
	HostPort      uint16     // 0 is chosen by the kernel
	ContainerPort uint16
	Protocol      string // tcp, udp
}

// String is the policy as Compose writes it.
func (r Restart) String() string {
	switch {
	case r.Policy == "":
		return "no"
	case r.MaxAttempts > 0:
		return fmt.Sprintf("%s:%d", r.Policy, r.MaxAttempts)
	}
	return r.Policy
}
