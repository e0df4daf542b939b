package burn

const sysMemfdArch = 319 // memfd_create(2)
