package box

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/simianhq/simian/internal/proc"
)

// Stats is what a cgroup uses. What its kernel does not count is 0.
type Stats struct {
	CPU         time.Duration // of all processors, since the cgroup was made
	MemoryBytes uint64        // now, page cache included
	MemoryLimit uint64        // bytes; 0 is none
	Pids        uint64        // processes and threads
	OOMKills    int           // as OOMKills tells
}

// unlimitedV1 is above what any memory can be: version 1 shows such a limit
// for none.
const unlimitedV1 = 1 << 62

// ReadStats reads what the cgroup called name uses, such as simian-RUN/web-1.
func ReadStats(fs proc.FS, name string) (Stats, error) {
	c, _, err := hierarchies(fs, name)
	if err != nil {
		return Stats{}, err
	}
	return c.Stats()
}

// Stats reads what the cgroup uses now.
func (c *Cgroup) Stats() (s Stats, err error) {
	for _, root := range c.roots() {
		dir := filepath.Join(root, c.name)
		if _, err := os.Stat(dir); err != nil {
			return s, fmt.Errorf("read stats of cgroup %s: %w", c.name, err)
		}
		s.CPU = max(s.CPU, time.Duration(number(dir, "cpuacct.usage")), time.Duration(field(filepath.Join(dir, "cpu.stat"), "usage_usec"))*time.Microsecond)
		s.MemoryBytes += number(dir, "memory.usage_in_bytes") + number(dir, "memory.current")
		s.MemoryLimit += number(dir, "memory.limit_in_bytes") + number(dir, "memory.max")
		s.Pids = max(s.Pids, number(dir, "pids.current"))
	}
	if s.MemoryLimit >= unlimitedV1 {
		s.MemoryLimit = 0
	}
	s.OOMKills, err = c.OOMKills()
	return s, err
}

// OOMKills returns how many processes the kernel has killed in the cgroup
// since its memory was at its limit; 0 where nothing counts them.
func (c *Cgroup) OOMKills() (int, error) {
	if c == nil || c.oom == "" {
		return 0, nil
	}
	if _, err := os.Stat(c.oom); err != nil {
		return 0, fmt.Errorf("count OOM kills of cgroup %s: %w", c.name, err)
	}
	return int(field(c.oom, "oom_kill")), nil
}

// number reads a file of one number; 0 where it is not there, or says max.
func number(dir, file string) uint64 {
	data, _ := os.ReadFile(filepath.Join(dir, file))
	n, _ := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	return n
}

// field reads the number behind a name in a file of such lines; 0 where there
// is none.
func field(file, name string) uint64 {
	data, _ := os.ReadFile(file)
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			return n
		}
	}
	return 0
}
