package main

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// weigh gives a cgroup, and those above it that the lab has made, the most
// weight there is: whatever else the machine does leaves it its quota.
func weigh(fs proc.FS, c experiment.Cgroup) error {
	dir := c.V1["cpu"].Path
	if dir == "" {
		dir = c.V2.Path
	}
	list, err := fs.CgroupHierarchies()
	if err != nil {
		return err
	}
	for _, h := range list {
		for at := dir; strings.HasPrefix(at, h.Dir+"/"); at = filepath.Dir(at) {
			for file, most := range map[string]string{"cpu.shares": "262144", "cpu.weight": "10000"} {
				path := filepath.Join(at, file)
				if _, err := os.Stat(path); err != nil {
					continue // of the other version
				}
				if err := os.WriteFile(path, []byte(most), 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// niceness is that of this process.
func niceness() int {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return 0
	}
	return 20 - raw // getpriority(2): C library/kernel differences
}
