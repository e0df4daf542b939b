package proc

import "slices"

// CgroupHierarchy is a cgroup hierarchy that is mounted.
type CgroupHierarchy struct {
	Controllers []string // of version 1, such as cpu and cpuacct, or systemd for name=systemd; nil for version 2
	Dir         string   // its topmost cgroup that this process can see
}

// CgroupHierarchies returns those that are mounted, each once, version 2 last.
func (f FS) CgroupHierarchies() ([]CgroupHierarchy, error) {
	mounts, err := f.hierarchies()
	if err != nil {
		return nil, err
	}
	var v1, v2 []CgroupHierarchy
	for _, m := range mounts {
		list := &v1
		if m.controllers == nil {
			list = &v2
		}
		again := func(h CgroupHierarchy) bool { return slices.Equal(h.Controllers, m.controllers) }
		if !slices.ContainsFunc(*list, again) {
			*list = append(*list, CgroupHierarchy{m.controllers, m.dir})
		}
	}
	return append(v1, v2...), nil
}
