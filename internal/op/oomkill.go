package op

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// OOMKill stands for what the kernel is about to do to a cgroup whose memory is
// being used up: kill. It changes nothing itself, and cannot be taken back.
type OOMKill struct {
	Cgroup  experiment.CgroupDir `json:"cgroup"`
	V2      bool                 `json:"v2"`
	Target  experiment.ProcessID `json:"target"`
	Name    string               `json:"name"`              // of the target
	Before  int64                `json:"before"`            // how many the kernel had killed there when it was planned
	Since   experiment.BootTime  `json:"since"`             // when it was planned
	Restart string               `json:"restart,omitempty"` // the policy by which the target surely comes back

	host *Host
}

// NewOOMKill returns the op for a target and its memory cgroup.
func NewOOMKill(h *Host, dir experiment.CgroupDir, v2 bool, t experiment.Target) *OOMKill {
	o := &OOMKill{Cgroup: dir, V2: v2, Target: t.PIDs[0], Name: t.Name, host: h}
	o.Before, o.Since = o.kills(), proc.BootTime()
	if t.Runtime != nil && t.Runtime.Restart != "no" {
		o.Restart = t.Runtime.Restart
	}
	return o
}

// String implements experiment.Op.
func (o *OOMKill) String() string {
	return fmt.Sprintf("have the kernel kill in %s for want of memory", o.Cgroup.Path)
}

// Leans implements experiment.Leaning.
func (o *OOMKill) Leans() string {
	if o.Restart == "" {
		return ""
	}
	return "restart: " + o.Restart
}

// Ends implements experiment.Ending: who was killed may come back by
// itself, and is not killed again.
func (o *OOMKill) Ends() bool { return true }

// Handles implements experiment.Handled.
func (o *OOMKill) Handles() []string { return []string{o.Cgroup.Handle() + "#oom"} }

// Apply implements experiment.Op.
func (o *OOMKill) Apply(context.Context) error {
	if !o.host.FS.Alive(o.Target) {
		return fmt.Errorf("wait for the end of %s: %w", o.Target, experiment.ErrGone)
	}
	return nil
}

// kills reads how many processes the kernel has killed in the cgroup.
func (o *OOMKill) kills() int64 {
	file := "memory.oom_control"
	if o.V2 {
		file = "memory.events"
	}
	data, _ := os.ReadFile(filepath.Join(o.Cgroup.Path, file))
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return n
		}
	}
	return 0
}

// Verify implements experiment.Verifier: whom the kernel has killed so far, as
// its log says, or how many, as the cgroup counts.
func (o *OOMKill) Verify(context.Context) (experiment.Evidence, error) {
	victims, err := o.victims()
	n := o.kills() - o.Before
	switch {
	case len(victims) > 0:
		return experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: "the kernel killed " + strings.Join(victims, ", ")}, nil
	case n > 0:
		what := fmt.Sprintf("the kernel killed %d", n)
		if err != nil {
			what += fmt.Sprintf(" (whom, its log does not tell: %v)", err)
		}
		return experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: what}, nil
	case !o.host.FS.Alive(o.Target):
		return experiment.Evidence{}, fmt.Errorf("%s: %w", o.Target, experiment.ErrGone)
	}
	return experiment.Evidence{InForce: true, Felt: experiment.FeltNothing, What: "the kernel has killed nothing yet", Hint: "memory did not run out in time: a shorter ramp, or a longer for"}, nil
}

// oomLine is what the kernel writes of a kill (mm/oom_kill.c).
var oomLine = regexp.MustCompile(`oom-kill:.*oom_memcg=([^,]*),.*task=([^,]*),pid=(\d+)`)

// victims reads the kernel's log: who was killed since for a limit that holds
// for this cgroup.
func (o *OOMKill) victims() ([]string, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var list []string
	record := make([]byte, 8192) // CONSOLE_EXT_LOG_MAX of the kernel's kernel/printk/internal.h
	for {
		n, err := unix.Read(fd, record)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return list, nil
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR): // it was overwritten meanwhile
			continue
		case err != nil:
			return list, err
		}
		if victim := o.victim(string(record[:n])); victim != "" {
			list = append(list, victim)
		}
	}
}

// logSlack is how much the log's clock, which stands still in suspend, may
// differ from boot time when little was suspended.
const logSlack = 10 * time.Millisecond

// victim names whom a record says was killed, "" where it is not about this
// cgroup. A record is "level,sequence,microseconds,flags;text".
func (o *OOMKill) victim(record string) string {
	head, text, _ := strings.Cut(record, ";")
	fields := strings.Split(head, ",")
	m := oomLine.FindStringSubmatch(text)
	if len(fields) < 3 || m == nil || !strings.HasSuffix(o.Cgroup.Path, m[1]) && !strings.Contains(o.Cgroup.Path+"/", m[1]+"/") {
		return ""
	}
	µs, _ := strconv.ParseInt(fields[2], 10, 64)
	if at := time.Duration(µs)*time.Microsecond + suspended(); at+logSlack < time.Duration(o.Since) {
		return ""
	}
	return fmt.Sprintf("%s (pid %s)", m[2], m[3])
}

// suspended is how long this machine has slept since it booted.
func suspended() time.Duration {
	var mono unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono)
	return time.Duration(int64(proc.BootTime()) - mono.Nano())
}
