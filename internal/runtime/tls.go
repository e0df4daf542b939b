package runtime

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"
)

// tls reads the endpoint's TLS material. A folder without a certificate of the
// client's, or without an authority's, is fine.
func (e endpoint) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: e.unverified}
	ca, err := os.ReadFile(e.cert("ca.pem"))
	switch {
	case err == nil:
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("%s holds no certificate", e.cert("ca.pem"))
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(e.cert("cert.pem"), e.cert("key.pem"))
	switch {
	case err == nil:
		config.Certificates = []tls.Certificate{pair}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return config, nil
}

// cause is why a connection failed. The library tells that in words only, so
// the socket is asked itself.
func (d *Docker) cause(err error) error {
	path, ok := strings.CutPrefix(d.at.host, "unix://")
	if !ok {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, dialled := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if dialled != nil {
		return dialled
	}
	conn.Close()
	return err
}
