package vdso

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBegin has how functions begin in the vDSO of a few kernels.
func TestBegin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, code, want string }{
		{"6.1 clock_gettime", "55 4889e5 4155 4154 4989f4", "55 4889e5 4155"},
		{"6.1 gettimeofday", "55 4989fa 4989f3 4889e5", "55 4989fa 4989f3"},
		{"6.12 clock_gettime", "f30f1efa 55 4889e5", "f30f1efa 55"},
		{"6.18 clock_gettime", "55 4889e5 4156 53", "55 4889e5 4156"},
		{"6.18 gettimeofday", "55 4c8d15e897ffff 4889e5", "55 4c8d15e897ffff"},
		{"with a number", "83ff17 b801000000", "83ff17 b801000000"},
		{"a jump", "e9530f0000 56", ""},
		{"a conditional jump", "83ff17 0f87d2000000", ""},
		{"a breakpoint", "cc 4889e5 4156 53", ""},
		{"cut short", "55 4889", ""},
	} {
		got, err := Begin(unhex(t, c.code))
		if (err == nil) != (c.want != "") || !bytes.Equal(got, unhex(t, c.want)) {
			t.Errorf("%s: % x, %v", c.name, got, err)
		}
	}
}

// TestMoved has an instruction that reads from where it stands.
func TestMoved(t *testing.T) {
	t.Parallel()
	site := Site{Name: "gettimeofday", At: 0x810, Was: unhex(t, "55 4c8d15e897ffff")}
	a := assembler{at: 0x1a20}
	got := a.moved(site)
	// lea r10, [0x818 - 0x6818], then jmp 0x818, both told from behind themselves
	want := unhex(t, "55 4c8d15")
	want = append(want, unhex(t, "d8 85ff ff e9 ebedffff")...)
	if !bytes.Equal(got, want) {
		t.Errorf("% x, want % x", got, want)
	}
}

func TestReturns(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"55 4889e5 4156 9090 ebf6":     true,  // jmp to its beginning
		"55 4889e5 4156 9090 75fd":     false, // jne to the nop
		"55 4889e5 4156 e9f8ffffff":    true,  // jmp into its first instructions
		"55 4889e5 4156 0f84f7ffffff":  true,
		"55 4889e5 4156 e900000000 c3": false,
	} {
		if got := Returns(unhex(t, code)); got != want {
			t.Errorf("%s: %v", code, got)
		}
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	for _, offset := range []time.Duration{0, time.Second, -time.Second, 250 * time.Millisecond, -1300 * time.Millisecond, -24 * time.Hour, 150 * 365 * 24 * time.Hour} {
		h := head(Shift{ID: 7, Offset: offset})
		rest, micros := binary.LittleEndian.Uint64(h[24:]), binary.LittleEndian.Uint64(h[32:])
		if len(h) != headSize || offsetOf(h) != offset || rest >= 1e9 || micros != rest/1000 {
			t.Errorf("%s: % x", offset, h)
		}
	}
}
