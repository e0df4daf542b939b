package stage

const sysSetnsArch = 308 // setns(2), which package syscall does not name on every architecture
