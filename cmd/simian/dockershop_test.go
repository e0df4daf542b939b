package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	dockertest "github.com/simianhq/simian/test/docker"
)

// TestDockerShop has Docker Compose start the shop, runs experiments on it, and
// wants the verdicts that docs/shop.md promises.
func TestDockerShop(t *testing.T) {
	needRoot(t)
	dockertest.Need(t)
	composeShop(t)
	l := newLab(t)
	for _, c := range []struct {
		name string
		want experiment.Verdict
	}{
		{"recommendations-down", experiment.Pass},
		{"catalog-frozen", experiment.Pass},
		{"catalog-slow", experiment.Fail},
		{"each-slow", experiment.Pass},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.t = t
			// Docker publishes the gateway's port in its own network namespace.
			err := proc.Do(dockertest.Network(t), func() error {
				l.verdict(c.want, "../../examples/shop/docker/"+c.name+".yaml")
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			l.clean()
		})
	}
	l.t = t
}

// composeShop starts the shop, and takes it down when the test ends.
func composeShop(t *testing.T) {
	t.Helper()
	dockertest.Command(t, "sh", "../../examples/shop/build.sh")
	image := dockertest.Name()
	t.Setenv("SHOP_IMAGE", image)
	t.Setenv("DOCKER_BUILDKIT", "0")
	t.Setenv("COMPOSE_HTTP_TIMEOUT", "300") // s; a busy machine
	dockertest.Docker.Command(t, "build", "-q", "-t", image, "../../examples/shop")
	data, err := os.ReadFile("../../examples/shop/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// Debian's Docker Compose 1.29 takes a project's name as a flag only.
	file := filepath.Join(t.TempDir(), "compose.yaml")
	if err := os.WriteFile(file, regexp.MustCompile(`(?m)^name: shop\n`).ReplaceAll(data, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	compose := []string{"docker-compose", "-p", "shop", "-f", file}
	t.Cleanup(func() {
		down := append(compose[1:], "down", "-v", "-t", "1")
		if out, err := exec.Command(compose[0], down...).CombinedOutput(); err != nil {
			t.Errorf("docker-compose down: %v\n%s", err, out)
		}
	})
	dockertest.Command(t, append(compose, "up", "-d")...)
	await(t, "the gateway's health", func() bool {
		return dockertest.Docker.Command(t, "inspect", "-f", "{{.State.Health.Status}}", "shop_gateway_1") == "healthy"
	})
}
