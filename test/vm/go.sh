#!/bin/sh
# Stands in for the go command, which is not in the machine: `go build -o FILE
# FOLDER` copies the program that was built from the folder beforehand, on the
# host; see outside in lab.go.
if [ "$1" != build ]; then
	echo "go: there is no toolchain in this machine" >&2
	exit 1
fi
shift
from=.
while [ $# -gt 0 ]; do
	case "$1" in
	-o)
		out=$2
		shift
		;;
	-ldflags | -tags) shift ;;
	-*) ;;
	*) from=$1 ;;
	esac
	shift
done
from=$(cd "$from" && pwd) || exit
exec cp "$from/$(basename "$from")" "$out"
