package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/simianhq/simian/internal/proc"
)

// unitLimits are those of a unit, as files of either cgroup version have them.
var unitLimits = map[string]string{
	"cpu.cfs_quota_us": "50000", "cpu.max": "50000 100000",
	"memory.limit_in_bytes": "134217728", "memory.max": "134217728",
	"pids.max": "200",
}

// makeUnit makes a cgroup in every hierarchy, as systemd does for a unit, with
// limits, and returns its folders.
func makeUnit(name string) ([]string, error) {
	roots, err := proc.Host().CgroupRoots()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, root := range roots {
		dir, err := makeCgroup(root, name)
		if err != nil {
			return dirs, err
		}
		dirs = append(dirs, dir)
		if err := limit(root, dir); err != nil {
			return dirs, err
		}
	}
	return dirs, nil
}

// limit sets the limits that a cgroup has files for. Nothing can run in one of
// version 1's cpuset before it has processors and memory.
func limit(above, dir string) error {
	var errs []error
	for file, value := range unitLimits {
		errs = append(errs, set(dir, file, value))
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		if value, err := os.ReadFile(filepath.Join(above, file)); err == nil {
			errs = append(errs, set(dir, file, string(value)))
		}
	}
	return errors.Join(errs...)
}

// set writes a file that is there.
func set(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
