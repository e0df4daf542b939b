package main

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// How long to wait for the machine to come to rest.
const (
	calmLook = 30 * time.Millisecond
	calmTime = 30 * time.Millisecond // at the most, for each container
)

// calm waits until the machine has little to do, or for as long as n
// containers are worth: the kernel takes the namespaces of a hundred apart for
// seconds, and whoever comes next would pay for that.
func calm(n int) {
	busy, all := ticks()
	for end := time.Now().Add(time.Duration(n) * calmTime); time.Now().Before(end); {
		time.Sleep(calmLook)
		busyNow, allNow := ticks()
		if 5*(busyNow-busy) <= allNow-all { // a fifth of the time at the most
			return
		}
		busy, all = busyNow, allNow
	}
}

// ticks returns for how long the processors have been busy, and how long they
// have been there (proc_stat(5)).
func ticks() (busy, all int) {
	data, _ := os.ReadFile("/proc/stat")
	first, _, _ := strings.Cut(string(data), "\n")
	for i, field := range strings.Fields(first) {
		n, err := strconv.Atoi(field)
		if err != nil {
			continue // its name
		}
		all += n
		if i != 4 && i != 5 { // idle, and waiting for a disk
			busy += n
		}
	}
	return busy, all
}
