package proc

// CgroupRoots returns the mount points of the cgroup hierarchies, version 2
// last: the topmost cgroup of each that this process can see.
func (f FS) CgroupRoots() ([]string, error) {
	mounts, err := f.hierarchies()
	if err != nil {
		return nil, err
	}
	var v1, v2 []string
	for _, m := range mounts {
		if m.controllers == nil {
			v2 = append(v2, m.dir)
		} else {
			v1 = append(v1, m.dir)
		}
	}
	return append(v1, v2...), nil
}

// initialPIDNamespace is the inode of the PID namespace that the kernel starts
// with (PROC_PID_INIT_INO, include/linux/proc_ns.h).
const initialPIDNamespace = 0xEFFFFFFC

// InitialPIDNamespace tells whether this process is in the PID namespace that
// the kernel started with. In any other, it ends when that one's PID 1 does.
func (f FS) InitialPIDNamespace() (bool, error) {
	inode, err := inodeOf(f.Proc + "/self/ns/pid")
	return inode == initialPIDNamespace, err
}
