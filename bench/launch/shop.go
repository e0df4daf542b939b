package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/simianhq/simian/targets/native"
)

// shopRounds is how often the shop is launched either way.
const shopRounds = 7

// shopUp launches the shop as a lab, and its services directly, in the order
// of their dependencies: what is between both is Simian's.
func (b *bench) shopUp(ctx context.Context) error {
	project, err := b.shopProject(ctx)
	if err != nil {
		return err
	}
	var lab, direct times
	for range shopRounds {
		b.say("the shop")
		took, err := b.shopLab(ctx)
		if err != nil {
			return err
		}
		lab = append(lab, took)
		if took, err = b.shopDirect(ctx, project); err != nil {
			return fmt.Errorf("start its services directly: %w", err)
		}
		direct = append(direct, took)
	}
	b.report.judgeShop(lab, direct)
	return nil
}

func (b *bench) shopProject(ctx context.Context) (*native.Project, error) {
	if _, err := os.Stat(filepath.Join(b.shop, "rootfs/shop")); err != nil {
		return nil, fmt.Errorf("build the shop first (sh examples/shop/build.sh): %w", err)
	}
	return native.Load(ctx, []string{filepath.Join(b.shop, "compose.yaml")}, native.LoadOptions{})
}

// shopEnv publishes the shop's page at a port that is free.
func shopEnv() ([]string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return []string{fmt.Sprintf("SHOP_PORT=%d", l.Addr().(*net.TCPAddr).Port)}, nil
}

func (b *bench) shopLab(ctx context.Context) (time.Duration, error) {
	env, err := shopEnv()
	if err != nil {
		return 0, err
	}
	took, err := b.labs.up(ctx, filepath.Join(b.shop, "compose.yaml"), env)
	if err != nil {
		return 0, err
	}
	_, err = b.labs.down(ctx, "shop")
	return took, err
}
