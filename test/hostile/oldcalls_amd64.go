package main

// oldCalls are those that only x86 has: the ports of its devices, and what the
// kernel has given up but still has a number for.
func oldCalls() []attempt {
	const uselib, iopl, ioperm, createModule, nfsservctl = 134, 172, 173, 174, 180
	return []attempt{
		call("iopl", iopl, 3),
		call("ioperm", ioperm, 0x80, 1, 1),
		call("uselib", uselib, text("/none")),
		call("create_module", createModule, text("hostile"), 4096),
		call("nfsservctl", nfsservctl, 0, 0, 0),
	}
}
