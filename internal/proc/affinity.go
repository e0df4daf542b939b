package proc

import (
	"fmt"
	"strconv"
	"strings"
)

// Affinities returns on which CPUs each thread of a process may run, as a list
// such as 0-1,3 (Cpus_allowed_list of proc_pid_status(5)). Threads that end
// meanwhile are left out.
func (f FS) Affinities(pid int) ([]string, error) {
	threads, err := f.Threads(pid)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, t := range threads {
		data, err := f.read(pid, "task/"+strconv.Itoa(t.PID)+"/status")
		if err != nil {
			continue
		}
		_, rest, ok := strings.Cut(string(data), "\nCpus_allowed_list:")
		if !ok {
			return nil, fmt.Errorf("read affinity of pid %d: no Cpus_allowed_list in its status", pid)
		}
		line, _, _ := strings.Cut(rest, "\n")
		list = append(list, strings.TrimSpace(line))
	}
	return list, nil
}
