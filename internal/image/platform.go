package image

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// platform is os/arch[/variant], in Go's words for them.
type platform struct{ os, arch, variant string }

// parsePlatform reads os/arch[/variant]; "" is this host's.
func parsePlatform(s string) (platform, error) {
	if s == "" {
		return platform{runtime.GOOS, runtime.GOARCH, ""}, nil
	}
	part := strings.Split(s, "/")
	if len(part) < 2 || len(part) > 3 || slices.Contains(part, "") {
		return platform{}, fmt.Errorf("platform %q is not os/arch[/variant]", s)
	}
	return platform{part[0], part[1], strings.Join(part[2:], "")}, nil
}

func (p platform) String() string {
	if p.variant == "" {
		return p.os + "/" + p.arch
	}
	return p.os + "/" + p.arch + "/" + p.variant
}

// baselines are the variants that any processor of an architecture runs, the
// best first. A program for a higher one may die of an illegal instruction.
func baselines(arch string) []string {
	switch arch {
	case "amd64":
		return []string{"", "v1"}
	case "arm64":
		return []string{"", "v8"}
	case "arm":
		return []string{"v7", "", "v6", "v5"}
	}
	return []string{""}
}

// choose returns the manifest of an index that is for p.
func (p platform) choose(list []v1.Descriptor) (v1.Descriptor, error) {
	variants := []string{p.variant}
	if p.variant == "" {
		variants = baselines(p.arch)
	}
	for _, v := range variants {
		for _, d := range list {
			if d.Platform != nil && (platform{d.Platform.OS, d.Platform.Architecture, d.Platform.Variant}) == (platform{p.os, p.arch, v}) {
				return d, nil
			}
		}
	}
	if len(list) == 1 && list[0].Platform == nil {
		return list[0], nil // its configuration will say
	}
	return v1.Descriptor{}, p.missing(list)
}

// missing says what there is instead.
func (p platform) missing(list []v1.Descriptor) error {
	var there []string
	for _, d := range list {
		if d.Platform != nil && d.Platform.OS != "unknown" { // a build's attestation is of no platform
			there = append(there, platform{d.Platform.OS, d.Platform.Architecture, d.Platform.Variant}.String())
		}
	}
	slices.Sort(there)
	return fmt.Errorf("it is not there for %s, only for %s", p, strings.Join(slices.Compact(there), ", "))
}

// check refuses an image that says it is for another platform.
func (p platform) check(f configFile) error {
	if (f.OS == "" || f.OS == p.os) && (f.Architecture == "" || f.Architecture == p.arch) &&
		(p.variant == "" || f.Variant == "" || f.Variant == p.variant) {
		return nil
	}
	return fmt.Errorf("it is not there for %s, only for %s", p, platform{f.OS, f.Architecture, f.Variant})
}
