package main

import (
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is what the figures are of.
type Host struct {
	Processors int               `json:"processors"`
	Kernel     string            `json:"kernel"`
	Workload   string            `json:"workload"`    // the language it is written in
	LoadBefore string            `json:"load_before"` // averages over 1, 5 and 15 minutes (proc_loadavg(5))
	LoadAfter  string            `json:"load_after"`
	Tools      map[string]string `json:"tools"` // versions of those that are there
}

func host() Host {
	h := Host{Processors: runtime.NumCPU(), Tools: map[string]string{}}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		h.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	for _, tool := range []string{"crun", "runc", "bwrap", "dockerd"} {
		out, err := exec.Command(tool, "--version").Output()
		if err == nil {
			first, _, _ := strings.Cut(string(out), "\n")
			h.Tools[tool] = first
		}
	}
	return h
}

func load() string {
	data, _ := os.ReadFile("/proc/loadavg") // "" where there is none
	fields := strings.Fields(string(data))
	return strings.Join(fields[:min(3, len(fields))], " ")
}
