package main

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is what the figures are of.
type Machine struct {
	Kernel     string `json:"kernel"`
	Processor  string `json:"processor"`
	Processors int    `json:"processors"`
	Emulated   bool   `json:"emulated"` // by software: many times slower
	Clock      string `json:"clock"`    // what the kernel reads the time from
	Congestion string `json:"congestion"`
	SendMax    string `json:"tcp_wmem"` // bytes: least, default, most; tcp(7)
	ReceiveMax string `json:"tcp_rmem"`
	LoadBefore string `json:"load_before"` // averages over 1, 5 and 15 minutes
	LoadAfter  string `json:"load_after"`
}

func machine(congestion string) Machine {
	m := Machine{Processors: runtime.NumCPU(), Processor: processor(), Congestion: congestion, LoadBefore: load()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	m.Emulated = strings.Contains(m.Processor, "TCG")
	m.Clock = line("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	m.SendMax, m.ReceiveMax = line("/proc/sys/net/ipv4/tcp_wmem"), line("/proc/sys/net/ipv4/tcp_rmem")
	return m
}

// processor is its model, as proc_cpuinfo(5) has it.
func processor() string {
	data, _ := os.ReadFile("/proc/cpuinfo") // "" where there is none
	for text := range strings.Lines(string(data)) {
		if name, value, _ := strings.Cut(text, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// line is the one line of a file, "" where there is none.
func line(path string) string {
	data, _ := os.ReadFile(path)
	return strings.Join(strings.Fields(string(data)), " ")
}

func load() string {
	fields := strings.Fields(line("/proc/loadavg"))
	return strings.Join(fields[:min(3, len(fields))], " ")
}
