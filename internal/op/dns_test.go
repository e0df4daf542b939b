package op

import (
	"testing"
)

// TestDNSHost says what this kernel has of what DNS needs.
func TestDNSHost(t *testing.T) {
	must(t, CheckRedirect(NewHost(host)))
}
