package kube

import "github.com/simianhq/simian/experiment"

// Ops returns the catalogue of ops on Kubernetes' objects. Journals are decoded
// with it.
func (c *Client) Ops() experiment.Catalog[experiment.Op] {
	return experiment.Catalog[experiment.Op]{
		"pod-delete":   func() experiment.Op { return &Delete{client: c} },
		"pod-evict":    func() experiment.Op { return &Evict{client: c} },
		"scale":        func() experiment.Op { return &Scale{client: c} },
		"cordon":       func() experiment.Op { return &Cordon{client: c} },
		"drain":        func() experiment.Op { return &Drain{client: c} },
		"kube-restart": func() experiment.Op { return &Rollout{client: c} },
	}
}
