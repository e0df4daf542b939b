package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/report"
	"github.com/simianhq/simian/targets/native"
)

// statsWindow is how long the processor time of containers is measured.
const statsWindow = 500 * time.Millisecond

// boxStats is what a container uses.
type boxStats struct {
	Container   string  `json:"container"`
	CPUPercent  float64 `json:"cpuPercent"` // of one CPU, over half a second
	MemoryBytes uint64  `json:"memoryBytes"`
	MemoryLimit uint64  `json:"memoryLimitBytes,omitzero"` // 0: none
	Pids        uint64  `json:"pids"`
	OOMKills    int     `json:"oomKills"`
}

func (a *app) labStatsCommand() *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:   "stats LAB",
		Short: "Show what the containers of a lab use",
		Long: `Stats shows the processor time, the memory and the number of processes of each
container, measured over half a second. It changes nothing.
` + plainExitCodes,
		Example:           "  simian lab stats shop\n  watch simian lab stats shop",
		Args:              exactly("LAB"),
		ValidArgsFunction: a.completeLabs,
		RunE: func(c *cobra.Command, args []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			s, err := a.standing(args[0])
			if err != nil {
				return usage(err)
			}
			list, err := a.stats(c.Context(), s)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.stdout, list)
			}
			return report.Table(a.stdout, []string{"CONTAINER", "CPU", "MEMORY", "LIMIT", "PROCESSES", "OOM KILLS"}, statsRows(list))
		},
	}
	out.add(c)
	return c
}

// stats measures each container that runs.
func (a *app) stats(ctx context.Context, s native.State) ([]boxStats, error) {
	before := map[string]box.Stats{}
	for _, b := range s.Boxes {
		if stats, err := box.ReadStats(a.fs, b.Cgroup); err == nil && b.Process.PID != 0 {
			before[b.Name] = stats
		}
	}
	start := time.Now()
	select {
	case <-time.After(statsWindow):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	list := []boxStats{}
	for _, b := range s.Boxes {
		was, ok := before[b.Name]
		now, err := box.ReadStats(a.fs, b.Cgroup)
		if !ok || err != nil {
			continue
		}
		used := now.CPU - was.CPU
		list = append(list, boxStats{
			Container: b.Name, CPUPercent: 100 * used.Seconds() / time.Since(start).Seconds(),
			MemoryBytes: now.MemoryBytes, MemoryLimit: now.MemoryLimit, Pids: now.Pids, OOMKills: now.OOMKills,
		})
	}
	return list, nil
}

func statsRows(list []boxStats) [][]string {
	var rows [][]string
	for _, s := range list {
		limit := "none"
		if s.MemoryLimit > 0 {
			limit = mebibytes(s.MemoryLimit)
		}
		rows = append(rows, []string{s.Container, fmt.Sprintf("%.1f %%", s.CPUPercent), mebibytes(s.MemoryBytes), limit, fmt.Sprint(s.Pids), fmt.Sprint(s.OOMKills)})
	}
	return rows
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
