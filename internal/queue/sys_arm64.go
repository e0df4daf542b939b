package queue

const sysSendmmsg = 269 // sendmmsg(2), which package syscall does not name on every architecture
