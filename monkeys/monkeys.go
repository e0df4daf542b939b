// Package monkeys is the catalogue of faults and inspectors: a monkey is a
// family of them, as users call it.
package monkeys

import (
	"maps"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/monkeys/chaos"
	"github.com/simianhq/simian/monkeys/latency"
)

// Faults returns every fault. They read the host through fs.
func Faults(fs proc.FS) experiment.Catalog[experiment.Fault] {
	all := experiment.Catalog[experiment.Fault]{}
	maps.Copy(all, chaos.All(fs))
	maps.Copy(all, latency.All(fs))
	return all
}

// Kubernetes returns the faults that change objects of Kubernetes, through k.
func Kubernetes(k *kube.Client) experiment.Catalog[experiment.Fault] {
	return chaos.Kubernetes(k)
}
