package gauge

import (
	"net"
	"os"
	"testing"
)

// TestMain has package net find out here what this host has of IPv6: it asks
// once, on whichever thread comes first, which may be in a namespace that has
// nothing yet.
func TestMain(m *testing.M) {
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		_ = l.Close()
	}
	os.Exit(m.Run())
}
