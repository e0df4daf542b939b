package queue

const sysSendmmsg = 307 // sendmmsg(2), which package syscall does not name on every architecture
