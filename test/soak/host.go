package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/simianhq/simian/internal/proc"
)

// host is what can be done on this one.
type host struct {
	freezers map[string]string // "v1", "v2" → the directory below which cgroups can be frozen
	killable string            // below which cgroups can be made and killed; "" where they cannot
	units    bool              // a cgroup can be made in every hierarchy
	netem    bool              // the kernel has it
	lacks    []string          // a line for each thing that is left out
}

// The files of a cgroup that are written and read.
const (
	procsFile    = "cgroup.procs"
	killFile     = "cgroup.kill"   // since Linux 5.14
	freezerV1    = "freezer.state" // Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst
	freezerV2    = "cgroup.events" // Documentation/admin-guide/cgroup-v2.rst
	freezerV2set = "cgroup.freeze"
)

// lookAtHost makes a cgroup in each hierarchy and looks what can be done with
// it.
func lookAtHost() (host, error) {
	h := host{freezers: map[string]string{}}
	roots, err := proc.Host().CgroupRoots()
	if err != nil {
		return h, err
	}
	h.units = true
	for _, root := range roots {
		dir, err := makeCgroup(root, fmt.Sprintf("simian-soak-%d-look", os.Getpid()))
		if err != nil {
			h.units = false
			continue
		}
		h.look(root, dir)
		if err := removeCgroup(dir); err != nil {
			return h, err
		}
	}
	for _, version := range []string{"v1", "v2"} {
		if h.freezers[version] == "" {
			h.lacks = append(h.lacks, "no cgroup "+version+" freezer to be had here"+needsRoot()+": left out")
		}
	}
	if h.killable == "" {
		h.lacks = append(h.lacks, "no cgroup can be made here"+needsRoot()+": none is killed")
	}
	return h, nil
}

func needsRoot() string {
	if os.Geteuid() == 0 {
		return ""
	}
	return " (it needs root)"
}

func (h *host) look(root, dir string) {
	if exists(filepath.Join(dir, freezerV1)) {
		h.freezers["v1"] = root
	}
	if exists(filepath.Join(dir, freezerV2set)) {
		h.freezers["v2"] = root
	}
	if h.killable == "" || exists(filepath.Join(dir, killFile)) {
		h.killable = root
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func makeCgroup(root, name string) (string, error) {
	dir := filepath.Join(root, name)
	return dir, os.Mkdir(dir, 0o755)
}

// removeCgroup removes a cgroup whose processes are dead or dying.
func removeCgroup(dir string) error {
	for range 500 {
		if err := os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("cgroup %s cannot be removed", dir)
}

// frozen tells whether a cgroup is frozen, or about to be.
func frozen(dir string) bool {
	v1, _ := os.ReadFile(filepath.Join(dir, freezerV1))
	v2, _ := os.ReadFile(filepath.Join(dir, freezerV2))
	set, _ := os.ReadFile(filepath.Join(dir, freezerV2set))
	return strings.Contains(string(v1), "FR") || strings.Contains(string(v2), "frozen 1") || strings.TrimSpace(string(set)) == "1"
}

// freeze freezes a cgroup, and tells whether it can.
func freeze(dir string) bool {
	for file, value := range map[string]string{freezerV1: "FROZEN", freezerV2set: "1"} {
		f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
		if err != nil {
			continue
		}
		_, err = f.WriteString(value)
		return errors.Join(err, f.Close()) == nil
	}
	return false
}

// thaw lets the victims of a leak die.
func thaw(dir string) {
	_ = os.WriteFile(filepath.Join(dir, freezerV1), []byte("THAWED"), 0)
	_ = os.WriteFile(filepath.Join(dir, freezerV2set), []byte("0"), 0)
}

// killCgroup kills all in a cgroup, at once where the kernel can.
func killCgroup(dir string) error {
	err := os.WriteFile(filepath.Join(dir, killFile), []byte("1"), 0)
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	for {
		pids, err := proc.Host().CgroupMembers(dir)
		if err != nil || len(pids) == 0 {
			return err
		}
		killAll(pids)
	}
}
