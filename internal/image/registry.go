package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// registry is where images are pulled from, with the credentials that docker
// login or podman login left, or that their helpers give.
type registry struct{ host string }

func (r registry) String() string { return "registry " + r.host }

func (r registry) find(ctx context.Context, w *wanted) (*found, error) {
	p, err := remote.NewPuller(remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithUserAgent("simian"))
	if err != nil {
		return nil, err
	}
	top, err := p.Get(ctx, w.name)
	if err != nil {
		return nil, r.explain(err)
	}
	repo := &repository{p, w.name.Context(), top}
	return resolve(ctx, repo, top.Descriptor, w.platform)
}

// explain says what a registry's refusal means to a user.
func (r registry) explain(err error) error {
	var t *transport.Error
	if !errors.As(err, &t) {
		return err
	}
	switch t.StatusCode {
	case http.StatusNotFound:
		return ErrNotThere
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("it is not there, or not for you (docker login %s gives credentials): %w", r.host, err)
	}
	return err
}

// repository is a registry's content by digest. What it gives is held to its
// digest as it is read.
type repository struct {
	puller *remote.Puller
	repo   name.Repository
	top    *remote.Descriptor // what was asked for
}

func (r *repository) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	ref := r.repo.Digest(d.Digest.String())
	switch {
	case d.Digest == r.top.Digest:
		return io.NopCloser(bytes.NewReader(r.top.Manifest)), nil
	case d.MediaType.IsIndex(), d.MediaType.IsImage():
		m, err := r.puller.Get(ctx, ref)
		if err != nil {
			return nil, missing(d, err)
		}
		return io.NopCloser(bytes.NewReader(m.Manifest)), nil
	}
	l, err := r.puller.Layer(ctx, ref)
	if err != nil {
		return nil, err
	}
	body, err := l.Compressed()
	return body, missing(d, err)
}

// missing says in fewer words that a registry lacks a part of an image it has.
func missing(d v1.Descriptor, err error) error {
	var t *transport.Error
	if errors.As(err, &t) && t.StatusCode == http.StatusNotFound {
		return fmt.Errorf("blob %s is missing from the registry", d.Digest)
	}
	return err
}
