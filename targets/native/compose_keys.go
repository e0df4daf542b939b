package native

import "strings"

// standing is what becomes of a key of a Compose file.
type standing int

const (
	taken   standing = iota // note says what is taken where it is not all
	whole                   // taken with all that is below it
	refused                 // note says why, or the way out; so is what is below it
	unsaid                  // compose-go has it, and no file can say it
)

// key is one key of the Compose format. In its path * is any name, and [] any
// item of a list.
type key struct {
	path string
	standing
	note string
}

// keys is the one table of what Simian makes of a Compose file. Tests hold it
// against compose-go's types and against docs/compose.md.
func keys() []key {
	return append(append(projectKeys(), serviceKeys()...), serviceSections()...)
}

const (
	noOutside  = "a lab has no names outside itself: leave it out"
	noSwarm    = "there is one machine and nothing to schedule"
	noHooks    = "a command, or a service that others depend on, does it"
	oneNetwork = "each container has a network namespace of its own: use networks"
	ownNS      = "each container has namespaces of its own"
	ownLogs    = "output is kept in Simian's logs (simian logs): leave it out"
	noDevices  = "containers get no devices of the host"
	useCPUs    = "say cpus"
	useVolume  = "mount a file with volumes"
	noDriver   = "only the built-in driver is there: leave it out"
	bridges    = "a lab has plain bridges: leave it out"
	compose1   = "a key of Compose's first format"
)

// projectKeys is what stands outside services.
func projectKeys() []key {
	return []key{
		{"name", taken, "of the project"},
		{"version", taken, "means nothing any more"},
		{"x-simian", refused, "it belongs to a service"},
		{"include", refused, "give its files beside this one"},
		{"jobs", refused, "a service with a profile does it"},
		{"secrets", refused, useVolume},
		{"configs", refused, useVolume},
		{"models", refused, "Simian runs no models: a service with the model's server does it"},

		{"networks", taken, "those that a service is on"},
		{"networks.*", taken, ""},
		{"networks.*.name", refused, noOutside},
		{"networks.*.driver", taken, "`bridge` only"},
		{"networks.*.driver_opts", refused, bridges},
		{"networks.*.ipam", taken, ""},
		{"networks.*.ipam.driver", taken, "`default` only"},
		{"networks.*.ipam.config", taken, "one pool, IPv4"},
		{"networks.*.ipam.config[]", taken, ""},
		{"networks.*.ipam.config[].subnet", taken, "up to /29; must not overlap another's"},
		{"networks.*.ipam.config[].gateway", taken, "the subnet's first address where nothing is said"},
		{"networks.*.ipam.config[].ip_range", refused, "say subnet"},
		{"networks.*.ipam.config[].aux_addresses", refused, "give the services ipv4_address"},
		{"networks.*.ipam.options", refused, bridges},
		{"networks.*.external", refused, "a lab makes its networks: declare it without external"},
		{"networks.*.internal", refused, "a lab's networks lead nowhere else: leave it out"},
		{"networks.*.attachable", refused, bridges},
		{"networks.*.labels", refused, noOutside},
		{"networks.*.enable_ipv4", refused, "a lab's networks are IPv4: leave it out"},
		{"networks.*.enable_ipv6", refused, "a lab's networks are IPv4: leave it out"},

		{"volumes", taken, "those that a service mounts; they go with the lab"},
		{"volumes.*", taken, ""},
		{"volumes.*.name", refused, noOutside},
		{"volumes.*.driver", taken, "`local` only"},
		{"volumes.*.driver_opts", refused, "mount it on the host, and bind it"},
		{"volumes.*.external", refused, "a lab's volumes begin empty: bind a folder of the host"},
		{"volumes.*.labels", refused, noOutside},

		{"services", taken, "those that are enabled; the others are not looked at"},
	}
}

// serviceKeys is what a service says on a line of its own.
func serviceKeys() []key {
	return prefixed("services.*.", []key{
		{"name", unsaid, "the service's name is its key"},
		{"annotations", refused, "say labels"},
		{"attach", refused, ownLogs},
		{"build", whole, "with `image`, which must be there already; without, the error names the command that builds it"},
		{"cap_add", taken, ""},
		{"cap_drop", taken, ""},
		{"cgroup", refused, ownNS},
		{"cgroup_parent", refused, "a lab's cgroups stand together"},
		{"command", taken, ""},
		{"configs", refused, useVolume},
		{"container_name", taken, "is one more name on its networks"},
		{"cpu_count", refused, useCPUs},
		{"cpu_percent", refused, useCPUs},
		{"cpu_period", refused, useCPUs},
		{"cpu_quota", refused, useCPUs},
		{"cpu_rt_period", refused, useCPUs},
		{"cpu_rt_runtime", refused, useCPUs},
		{"cpu_shares", taken, ""},
		{"cpus", taken, "0.01 and more"},
		{"cpuset", taken, ""},
		{"credential_spec", refused, "it is for Windows"},
		{"develop", refused, "a lab does not change while it is up"},
		{"device_cgroup_rules", refused, noDevices},
		{"devices", refused, noDevices},
		{"dns", taken, ""},
		{"dns_opt", refused, "the lab's resolver takes no options"},
		{"dns_search", refused, "the lab's resolver takes whole names"},
		{"dockerfile", unsaid, compose1},
		{"domainname", refused, "say the whole name in hostname"},
		{"entrypoint", taken, ""},
		{"environment", taken, ""},
		{"expose", taken, "means nothing: containers on one network reach all of each other's ports"},
		{"extends", unsaid, "is resolved while the file is read"},
		{"external_links", refused, "there are no containers outside the lab"},
		{"extra_hosts", taken, "addresses; not `host-gateway`"},
		{"gpus", refused, noDevices},
		{"group_add", refused, "say user: USER:GROUP"},
		{"hostname", taken, ""},
		{"image", taken, "also `docker-archive:FILE`, `oci-archive:FILE`, `oci:DIR`, `docker:NAME`, `containerd:NAME`"},
		{"init", taken, ""},
		{"ipc", refused, ownNS},
		{"isolation", refused, "it is for Windows"},
		{"label_file", refused, "say labels"},
		{"labels", taken, ""},
		{"links", refused, "a service's name is known on its networks: say depends_on, and aliases for other names"},
		{"log_driver", unsaid, compose1},
		{"log_opt", unsaid, compose1},
		{"logging", refused, ownLogs},
		{"mac_address", refused, "addresses are chosen by the lab"},
		{"mem_limit", taken, ""},
		{"mem_reservation", taken, ""},
		{"mem_swappiness", refused, "say memswap_limit"},
		{"memswap_limit", taken, "with `mem_limit`; -1 is without limit"},
		{"models", refused, "Simian runs no models"},
		{"net", unsaid, compose1},
		{"network_mode", refused, oneNetwork},
		{"oom_kill_disable", refused, "the kernel must be able to end it: say mem_limit"},
		{"oom_score_adj", refused, "say mem_limit"},
		{"pid", refused, ownNS},
		{"pids_limit", taken, "-1 is without limit"},
		{"platform", taken, "`linux` only"},
		{"post_start", refused, noHooks},
		{"pre_start", refused, noHooks},
		{"pre_stop", refused, noHooks},
		{"privileged", refused, "name what it needs with cap_add"},
		{"profiles", taken, ""},
		{"provider", refused, "Simian starts containers only"},
		{"pull_policy", taken, "`missing`, `if_not_present`, `always`, `never`"},
		{"pull_refresh_after", refused, "say pull_policy: always"},
		{"read_only", taken, ""},
		{"restart", taken, ""},
		{"runtime", refused, "Simian starts containers itself: leave it out"},
		{"scale", taken, ""},
		{"secrets", refused, useVolume},
		{"security_opt", taken, "`no-new-privileges[:false]`, `seccomp=FILE`, `seccomp=unconfined`"},
		{"shm_size", taken, ""},
		{"stdin_open", refused, "standard input is /dev/null: leave it out"},
		{"stop_grace_period", taken, ""},
		{"stop_signal", taken, ""},
		{"storage_opt", refused, "there is no storage driver"},
		{"sysctls", taken, "those that a namespace has of its own: `net.`, `fs.mqueue.`, `kernel.shm*`, `kernel.msg*`, `kernel.sem`"},
		{"tmpfs", taken, "ro, rw, exec, noexec, suid, nosuid, dev, nodev, size, mode, uid, gid"},
		{"tty", refused, "output goes to a log: leave it out"},
		{"umask", refused, "set it in the command"},
		{"use_api_socket", refused, "there is no engine whose socket could be shared"},
		{"user", taken, ""},
		{"userns_mode", taken, "`host`, or `private`, which Docker Compose does not know"},
		{"uts", refused, ownNS},
		{"volume_driver", unsaid, compose1},
		{"volumes_from", refused, "name a volume that both mount"},
		{"working_dir", taken, ""},
		{"x-simian", taken, ""},
		{"x-simian.rootfs", taken, "a folder to use for the image"},
	})
}

func prefixed(prefix string, list []key) []key {
	for i := range list {
		list[i].path = prefix + list[i].path
	}
	return list
}

// keyIndex is the table by path.
type keyIndex map[string]key

func indexKeys() keyIndex {
	index := keyIndex{"services.*": {path: "services.*"}}
	for _, k := range keys() {
		index[k.path] = k
	}
	return index
}

// below returns the names of the keys that are known under path.
func (x keyIndex) below(path string) []string {
	var names []string
	for p, k := range x {
		name, ok := strings.CutPrefix(p, strings.TrimPrefix(path+".", "."))
		if ok && k.standing != unsaid && !strings.ContainsAny(name, ".*[") {
			names = append(names, name)
		}
	}
	return names
}
