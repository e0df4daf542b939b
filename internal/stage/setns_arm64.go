package stage

const sysSetnsArch = 268 // setns(2), which package syscall does not name on every architecture
