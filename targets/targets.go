// Package targets is the catalogue of selectors.
package targets

import (
	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/runtime"
	"github.com/simianhq/simian/targets/containerd"
	"github.com/simianhq/simian/targets/docker"
	"github.com/simianhq/simian/targets/native"
	"github.com/simianhq/simian/targets/pod"
	"github.com/simianhq/simian/targets/process"
)

// All returns every selector, by the name that files call it. They read the
// host through fs, and find containers in the current lab.
func All(fs proc.FS, lab *native.Current) experiment.Catalog[experiment.Selector] {
	clients := runtime.New()
	return experiment.Catalog[experiment.Selector]{
		"containerd": containerd.New(fs, clients),
		"docker":     docker.New(fs, clients),
		"native":     native.Selectors(lab),
		"podman":     docker.NewPodman(fs, clients),
		"process":    process.New(fs),
	}
}

// Kubernetes returns the selectors of what the API server of a cluster knows.
func Kubernetes(env pod.Env) experiment.Catalog[experiment.Selector] {
	return experiment.Catalog[experiment.Selector]{
		"pod": pod.New(env),
	}
}
