package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	content "github.com/containerd/containerd/api/services/content/v1"
	images "github.com/containerd/containerd/api/services/images/v1"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// containerd is the store of the containerd on this machine. Two of its
// services say all that is needed: which digest a name stands for, and what
// a digest's content is.
type containerd struct {
	socket     string
	namespaces []string // asked in this order
}

// localContainerd is the containerd that CONTAINERD_ADDRESS names, else the usual one.
func localContainerd(namespaces []string) place {
	socket := os.Getenv("CONTAINERD_ADDRESS")
	if socket == "" {
		socket = "/run/containerd/containerd.sock"
	}
	return containerd{strings.TrimPrefix(socket, "unix://"), namespaces}
}

// containerdNamespaces are those looked in where none is named: ctr's and
// nerdctl's, Kubernetes' and Docker's.
func containerdNamespaces() []string {
	list := []string{"default", "k8s.io", "moby"}
	if ns := os.Getenv("CONTAINERD_NAMESPACE"); ns != "" && !slices.Contains(list, ns) {
		list = append([]string{ns}, list...)
	}
	return list
}

func (c containerd) String() string { return "containerd" }

func (c containerd) stamp(ctx context.Context, w *wanted) (string, error) {
	conn, err := c.dial()
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_, d, err := c.lookUp(ctx, conn, w)
	return d.Digest.String(), err
}

func (c containerd) find(ctx context.Context, w *wanted) (*found, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	f, err := c.resolve(ctx, conn, w)
	if err != nil {
		conn.Close()
		return nil, err
	}
	f.close = func() { conn.Close() }
	return f, nil
}

func (c containerd) resolve(ctx context.Context, conn *grpc.ClientConn, w *wanted) (*found, error) {
	store, d, err := c.lookUp(ctx, conn, w)
	if err != nil {
		return nil, err
	}
	f, err := resolve(ctx, store, d, w.platform)
	if err != nil {
		return nil, err
	}
	for _, l := range f.layers {
		if _, err := store.size(ctx, l.digest.String()); err != nil {
			return nil, err
		}
	}
	f.stamp = d.Digest.String()
	return f, nil
}

func (c containerd) dial() (*grpc.ClientConn, error) {
	probe, err := net.DialTimeout("unix", c.socket, 2*time.Second) // gRPC tries for longer, and says more
	if err != nil {
		return nil, fmt.Errorf("none runs at %s", c.socket)
	}
	probe.Close()
	return grpc.NewClient("unix:"+c.socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // a socket that only root can open
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
}

// lookUp finds a name in the first namespace that has it.
func (c containerd) lookUp(ctx context.Context, conn *grpc.ClientConn, w *wanted) (contentStore, v1.Descriptor, error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	for _, ns := range c.namespaces {
		s := contentStore{conn, ns}
		d, err := s.target(ctx, w)
		if !errors.Is(err, ErrNotThere) {
			return s, d, err
		}
	}
	return contentStore{}, v1.Descriptor{}, fmt.Errorf("%w, in the namespaces %s", ErrNotThere, strings.Join(c.namespaces, ", "))
}

// contentStore is one namespace's.
type contentStore struct {
	conn      *grpc.ClientConn
	namespace string
}

func (s contentStore) in(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", s.namespace)
}

// target returns what a reference stands for here.
func (s contentStore) target(ctx context.Context, w *wanted) (v1.Descriptor, error) {
	if d, ok := w.name.(name.Digest); ok {
		size, err := s.size(ctx, d.DigestStr())
		if err != nil {
			return v1.Descriptor{}, err
		}
		h, err := v1.NewHash(d.DigestStr())
		return v1.Descriptor{Digest: h, Size: size}, err
	}
	for _, n := range []string{strings.Replace(w.name.Name(), name.DefaultRegistry, "docker.io", 1), w.raw} {
		r, err := images.NewImagesClient(s.conn).Get(s.in(ctx), &images.GetImageRequest{Name: n})
		if status.Code(err) == codes.NotFound {
			continue
		}
		if err != nil {
			return v1.Descriptor{}, err
		}
		t := r.GetImage().GetTarget()
		h, err := v1.NewHash(t.GetDigest())
		return v1.Descriptor{MediaType: types.MediaType(t.GetMediaType()), Digest: h, Size: t.GetSize()}, err
	}
	return v1.Descriptor{}, ErrNotThere
}

// size returns that of a blob, in bytes; ErrNotThere where it is missing.
func (s contentStore) size(ctx context.Context, digest string) (int64, error) {
	r, err := content.NewContentClient(s.conn).Info(s.in(ctx), &content.InfoRequest{Digest: digest})
	if status.Code(err) == codes.NotFound {
		return 0, fmt.Errorf("blob %s is %w (containerd may be set to keep no layers that it has unpacked)", digest, ErrNotThere)
	}
	return r.GetInfo().GetSize(), err
}

func (s contentStore) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if _, err := s.size(ctx, d.Digest.String()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(s.in(ctx))
	stream, err := content.NewContentClient(s.conn).Read(ctx, &content.ReadContentRequest{Digest: d.Digest.String()})
	if err != nil {
		cancel()
		return nil, err
	}
	return &streamReader{stream: stream, cancel: cancel}, nil
}

// streamReader reads the pieces that containerd sends.
type streamReader struct {
	stream content.Content_ReadClient
	cancel context.CancelFunc
	rest   []byte
}

func (r *streamReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		m, err := r.stream.Recv()
		if err != nil {
			return 0, err // io.EOF at the end
		}
		r.rest = m.GetData()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *streamReader) Close() error {
	r.cancel()
	return nil
}
