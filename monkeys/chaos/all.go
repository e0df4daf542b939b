package chaos

import (
	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/runtime"
)

// All returns the faults of the Chaos Monkey. They read the host through fs.
func All(fs proc.FS) experiment.Catalog[experiment.Fault] {
	host, clients := op.NewHost(fs), runtime.New()
	return experiment.Catalog[experiment.Fault]{
		"burn.cpu":     func() experiment.Fault { return &BurnCPU{host: host} },
		"burn.io":      func() experiment.Fault { return &BurnIO{host: host} },
		"burn.memory":  func() experiment.Fault { return &BurnMemory{host: host} },
		"capabilities": func() experiment.Fault { return &Capabilities{fs: fs} },
		"clock":        clocks(host),
		"detach":       func() experiment.Fault { return &Detach{host: host} },
		"dns":          dnsFaults(host),
		"exec":         func() experiment.Fault { return &Exec{host: host} },
		"exhaust":      func() experiment.Fault { return &Exhaust{host: host} },
		"fill":         func() experiment.Fault { return &Fill{host: host} },
		"freeze":       func() experiment.Fault { return &Freeze{fs: fs} },
		"http":         func() experiment.Fault { return &HTTP{host: host} },
		"kill":         func() experiment.Fault { return &Kill{fs: fs, clients: clients} },
		"partition":    partitions(host),
		"remove":       func() experiment.Fault { return &Remove{fs: fs, clients: clients} },
		"stop":         func() experiment.Fault { return &Stop{fs: fs, clients: clients} },
		"throttle":     throttles(host),
	}
}

// Kubernetes returns the faults that change objects of Kubernetes, through k.
func Kubernetes(k *kube.Client) experiment.Catalog[experiment.Fault] {
	return experiment.Catalog[experiment.Fault]{
		"cordon":  func() experiment.Fault { return &Cordon{kube: k} },
		"delete":  func() experiment.Fault { return &Delete{kube: k} },
		"drain":   func() experiment.Fault { return &Drain{kube: k} },
		"evict":   func() experiment.Fault { return &Evict{kube: k} },
		"rollout": func() experiment.Fault { return &Rollout{kube: k} },
		"scale":   func() experiment.Fault { return &Scale{kube: k} },
	}
}
