package burn

const sysMemfdArch = 279 // memfd_create(2)
