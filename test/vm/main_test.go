package main

import (
	"context"
	"io"
	"strings"
	"testing"
)

// What is missing is an error that names the remedy, and never a pass.
func TestMissingLab(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := findLab(dir, "none-such")
	want := dir + "/bin/vm/kernels/none-such/boot/vmlinuz-*"
	if err == nil || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), "`make lab` installs it") {
		t.Error(err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"no packages":      {"-v"},
		"tests or exec":    {"-exec", "true", "./internal/op"},
		"out of tests":     {"-out", "x", "./internal/op"},
		"no such flag":     {"-x", "./internal/op"},
		"no regexp":        {"-may-skip", "(", "./internal/op"},
		"no such duration": {"-boot", "soon", "./internal/op"},
	} {
		if ok, err := run(context.Background(), args, io.Discard); ok || err == nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
}
