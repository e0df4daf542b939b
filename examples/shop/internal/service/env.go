// Package service holds what the shop's services have in common: what they
// read from the environment, how they serve and stop, and how they ask each
// other.
package service

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
)

// Env is what a service is told by its environment.
type Env struct {
	Addr string // SHOP_ADDR: where it serves HTTP; :8080
	Data string // SHOP_DATA: the folder of its data store; /data

	Catalog         string // SHOP_CATALOG_URL; http://catalog:8080
	Users           string // SHOP_USERS_URL
	Orders          string // SHOP_ORDERS_URL
	Recommendations string // SHOP_RECOMMENDATIONS_URL
	Billing         string // SHOP_BILLING_URL
	Bus             string // SHOP_BUS_URL; nats://bus:4222
	BusAddr         string // SHOP_BUS_ADDR: where the bus itself listens; :4222

	Fallback bool // SHOP_FALLBACK: on, or off: no popular picks where personal ones are not to be had

	Log *slog.Logger
}

// FromEnv reads the environment of the service called name, which logs to logs.
func FromEnv(name string, getenv func(string) string, logs io.Writer) (Env, error) {
	or := func(key, standard string) string {
		if v := getenv(key); v != "" {
			return v
		}
		return standard
	}
	env := Env{
		Addr:            or("SHOP_ADDR", ":8080"),
		Data:            or("SHOP_DATA", "/data"),
		Catalog:         or("SHOP_CATALOG_URL", "http://catalog:8080"),
		Users:           or("SHOP_USERS_URL", "http://users:8080"),
		Orders:          or("SHOP_ORDERS_URL", "http://orders:8080"),
		Recommendations: or("SHOP_RECOMMENDATIONS_URL", "http://recommendations:8080"),
		Billing:         or("SHOP_BILLING_URL", "http://billing:8080"),
		Bus:             or("SHOP_BUS_URL", "nats://bus:4222"),
		BusAddr:         or("SHOP_BUS_ADDR", ":4222"),
		Log:             slog.New(slog.NewTextHandler(logs, nil)).With("service", name),
	}
	switch v := or("SHOP_FALLBACK", "on"); v {
	case "on", "off":
		env.Fallback = v == "on"
	default:
		return Env{}, fmt.Errorf("SHOP_FALLBACK: want on or off, not %q", v)
	}
	return env, nil
}

// Path returns the path of a file in the service's data folder.
func (e Env) Path(name string) string { return filepath.Join(e.Data, name) }
