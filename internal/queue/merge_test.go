package queue

import (
	"encoding/binary"
	"testing"
)

// udp4 is a frame as a TAP gives it, with so many bytes of payload.
func udp4(payload int) []byte {
	f := make([]byte, atIP+lenIPv4+lenUDP+payload)
	f[vnetFlags] = needsChecksum
	binary.NativeEndian.PutUint16(f[vnetStart:], 34)
	binary.NativeEndian.PutUint16(f[vnetOffset:], 6)
	binary.BigEndian.PutUint16(f[atIP-2:], 0x0800)
	ip := f[atIP:]
	ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, 64, 17
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[24:], uint16(len(ip)-20))
	return f
}

func TestDatagram(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(f []byte) []byte
		want   int
	}{
		{"as it is", func(f []byte) []byte { return f }, atIP + lenIPv4},
		{"its checksum is complete", func(f []byte) []byte { f[vnetFlags] = 0; return f }, 0},
		{"it is yet to be cut", func(f []byte) []byte { f[vnetKind] = kindUDP; return f }, 0},
		{"options", func(f []byte) []byte { f[atIP] = 0x46; return f }, 0},
		{"a fragment", func(f []byte) []byte { f[atIP+6] = 0x20; return f }, 0},
		{"may be fragmented", func(f []byte) []byte { f[atIP+6] = 0; return f }, 0},
		{"TCP", func(f []byte) []byte { f[atIP+9] = 6; return f }, 0},
		{"ARP", func(f []byte) []byte { f[atIP-1] = 6; return f }, 0},
		{"padded", func(f []byte) []byte { return append(f, 0) }, 0},
		{"cut", func(f []byte) []byte { return f[:atIP+10] }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := datagram(c.change(udp4(100))); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
	if datagram(udp4(0)) != 0 {
		t.Error("one without payload is merged")
	}
}

func TestSameFlow(t *testing.T) {
	t.Parallel()
	a := udp4(100)
	for at, same := range map[int]bool{
		0: false, atIP + 1: false, atIP + 4: true, atIP + 8: false, atIP + 11: true, atIP + 15: false, atIP + 19: false,
		atIP + 20: false, atIP + 23: false, atIP + 27: true, atIP + 40: true,
	} {
		b := udp4(100)
		if at == 0 {
			at = atEther
		}
		b[at] ^= 1
		if got := sameFlow(a, b, atIP+lenIPv4); got != same {
			t.Errorf("byte %d differs: %t", at, got)
		}
	}
}

// FuzzMerge reads frames of any kind.
func FuzzMerge(f *testing.F) {
	f.Add(udp4(100), udp4(50))
	f.Add([]byte{}, []byte{1})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		at := datagram(a)
		if at == 0 || datagram(b) != at || len(a)-atIP > maxIP {
			return
		}
		if sameFlow(a, b, at) {
			grow(a, at, len(a)-at-lenUDP, len(a)-atIP)
		}
		if got := int(binary.BigEndian.Uint16(a[at+4:])); got != len(a)-at {
			t.Errorf("%d bytes of UDP, want %d", got, len(a)-at)
		}
	})
}
