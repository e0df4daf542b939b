#!/bin/sh
# Builds the shop, and lays out rootfs/: a folder with nothing but the binary,
# its users and a data folder, which is all that a container of it needs.
# `docker build -t simian-shop .` makes an image of the same.
set -eu
cd "$(dirname "$0")"
rm -rf rootfs
mkdir -p rootfs/etc rootfs/data
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o rootfs/shop .
echo "shop:x:10001:10001::/data:/shop" >rootfs/etc/passwd
echo "shop:x:10001:" >rootfs/etc/group
chmod 755 rootfs rootfs/etc rootfs/shop
chmod 700 rootfs/data
if [ "$(id -u)" = 0 ]; then
	chown -R 0:0 rootfs
	chown 10001:10001 rootfs/data # what a new volume at /data starts from
fi
