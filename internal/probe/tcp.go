package probe

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/simianhq/simian/experiment"
)

// TCP measures how long a connection takes to be made, in seconds, the look-up
// of the name included. It is closed at once.
type TCP struct {
	Address string              `json:"address" jsonschema:"host:port"`
	Timeout experiment.Duration `json:"timeout,omitzero" jsonschema:"no connection by then is a failed sample (1s)"`

	dial dialFunc
}

// Validate implements experiment.Validator.
func (t *TCP) Validate() error {
	if t.Address == "" {
		return errors.New("an address is missing, such as address: db:5432")
	}
	host, port, err := net.SplitHostPort(t.Address)
	if err != nil || host == "" {
		return experiment.Fieldf("address", "%q is not host:port", t.Address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return experiment.Fieldf("address", "%q is not a port (1 to 65535)", port)
	}
	return checkTimeout(t.Timeout)
}

// Unit implements experiment.Measured.
func (t *TCP) Unit() string { return "s" }

// Measure implements experiment.Probe.
func (t *TCP) Measure(ctx context.Context) (float64, error) {
	within, cancel := context.WithTimeout(ctx, t.Timeout.D())
	defer cancel()
	began := time.Now()
	conn, err := t.dial(within, "tcp", t.Address)
	if err != nil {
		return 0, plain(ctx, err, t.Timeout)
	}
	seconds := time.Since(began).Seconds()
	conn.Close()
	return seconds, nil
}
