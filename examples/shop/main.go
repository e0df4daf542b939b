// Command shop is a small online shop to break: seven services in one binary,
// each with a data store of its own.
//
//	shop gateway            the web page and the API for customers
//	shop catalog            what is sold, and for how much (SQLite)
//	shop users              who buys (an append-only key-value store)
//	shop orders             takes orders, and publishes them (bbolt, with an outbox)
//	shop recommendations    what a customer may like (bbolt)
//	shop bus                carries orders to who wants them (NATS JetStream)
//	shop billing            bills each order once, and counts them (SQLite)
//	shop healthcheck URL    exits 0 if URL answers with 200
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/simianhq/simian/examples/shop/internal/billing"
	"github.com/simianhq/simian/examples/shop/internal/bus"
	"github.com/simianhq/simian/examples/shop/internal/catalog"
	"github.com/simianhq/simian/examples/shop/internal/gateway"
	"github.com/simianhq/simian/examples/shop/internal/orders"
	"github.com/simianhq/simian/examples/shop/internal/recommendations"
	"github.com/simianhq/simian/examples/shop/internal/service"
	"github.com/simianhq/simian/examples/shop/internal/users"
)

// errUsage says that the command line is wrong.
var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "usage:\n  shop %s\n  shop healthcheck URL\n", strings.Join(names(), "|"))
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

// services are the subcommands that serve until ctx ends.
func services() map[string]func(context.Context, service.Env) error {
	return map[string]func(context.Context, service.Env) error{
		"gateway":         gateway.Run,
		"catalog":         catalog.Run,
		"users":           users.Run,
		"orders":          orders.Run,
		"recommendations": recommendations.Run,
		"bus":             bus.Run,
		"billing":         billing.Run,
	}
}

func names() []string { return slices.Sorted(maps.Keys(services())) }

func run(ctx context.Context, args []string, getenv func(string) string, logs io.Writer) error {
	if len(args) == 2 && args[0] == "healthcheck" {
		return service.CheckHealth(ctx, args[1])
	}
	if len(args) != 1 || services()[args[0]] == nil {
		return errUsage
	}
	env, err := service.FromEnv(args[0], getenv, logs)
	if err != nil {
		return err
	}
	return services()[args[0]](ctx, env)
}
