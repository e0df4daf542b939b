package image

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// wanted is an image reference, read.
type wanted struct {
	ref      string         // as given
	key      string         // in full, so that what means the same is the same
	name     name.Reference // nil for a file
	raw      string         // the name as given, for stores that know odd ones
	platform platform
	places   []place // where to look, in this order
	cached   bool    // the cache may have it
	only     bool    // the reference names its one place
	tmp      string  // a folder for what is needed for a moment
	limit    limits
}

// place is where an image may be.
type place interface {
	// find returns the image, and ErrNotThere where there is none of that name.
	find(ctx context.Context, w *wanted) (*found, error)
	String() string
}

// stamper is a place that can say quickly which image a name stands for.
type stamper interface {
	// stamp returns the place's own name for the image: one that changes with it.
	stamp(ctx context.Context, w *wanted) (string, error)
}

// parse reads a reference:
//
//	NAME[:TAG][@DIGEST]   docker:NAME   containerd:[NAMESPACE/]NAME
//	docker-archive:FILE[:NAME:TAG]   oci-archive:FILE[:TAG]   oci:DIR[:TAG]
//
// A path ends at its first colon.
func parse(ref string, o Options) (*wanted, error) {
	p, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	w := &wanted{ref: ref, platform: p, limit: o.limits()}
	scheme, rest, _ := strings.Cut(ref, ":")
	switch scheme {
	case "docker-archive", "oci-archive", "oci":
		return w, w.file(scheme, rest, o.Dir)
	case "docker":
		w.only, w.cached, w.places = true, true, []place{localDocker()}
		return w, w.named("docker:", rest)
	case "containerd":
		w.only, w.cached = true, true
		return w, w.containerd(rest)
	}
	if err := w.named("", ref); err != nil {
		return nil, err
	}
	return w, w.pull(o.Pull)
}

// pull says where a plain name is looked for.
func (w *wanted) pull(policy string) error {
	local := []place{localDocker(), localContainerd(containerdNamespaces())}
	distant := registry{w.name.Context().RegistryStr()}
	switch policy {
	case "", "missing":
		w.cached, w.places = true, append(local, distant)
	case "never":
		w.cached, w.places = true, local
	case "always":
		w.places = []place{distant}
	default:
		return fmt.Errorf("pull policy %q is none of missing, always, never", policy)
	}
	return nil
}

// named reads a name as Docker does.
func (w *wanted) named(prefix, s string) error {
	n, err := name.ParseReference(s)
	if err != nil {
		return fmt.Errorf("read its name: %w", err)
	}
	w.name, w.raw = n, s
	w.key = prefix + familiar(n)
	return nil
}

// familiar is a name as people write it: nginx:latest for
// index.docker.io/library/nginx:latest.
func familiar(n name.Reference) string {
	repo := n.Context().RepositoryStr()
	if n.Context().RegistryStr() == name.DefaultRegistry {
		repo = strings.TrimPrefix(repo, "library/")
	} else {
		repo = n.Context().RegistryStr() + "/" + repo
	}
	if d, ok := n.(name.Digest); ok {
		return repo + "@" + d.DigestStr()
	}
	return repo + ":" + n.Identifier()
}

// containerd reads [NAMESPACE/]NAME: a first part that is one of the
// namespaces usually looked in, or stands before a registry's name.
func (w *wanted) containerd(s string) error {
	first, rest, ok := strings.Cut(s, "/")
	if ok && isNamespace(first, rest) {
		w.places = []place{localContainerd([]string{first})}
		return w.named("containerd:"+first+"/", rest)
	}
	w.places = []place{localContainerd(containerdNamespaces())}
	return w.named("containerd:", s)
}

func isNamespace(first, rest string) bool {
	if slices.Contains(containerdNamespaces(), first) {
		return true
	}
	host, _, ok := strings.Cut(rest, "/")
	return ok && strings.ContainsAny(host, ".:") && !strings.ContainsAny(first, ".:")
}

// file reads PATH[:NAME].
func (w *wanted) file(scheme, s, dir string) error {
	path, image, _ := strings.Cut(s, ":")
	if path == "" {
		return errors.New("it names no file")
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	w.key, w.only = scheme+":"+path, true
	if image != "" {
		w.key += ":" + image
	}
	w.places = []place{archive{scheme, path, image}}
	return nil
}
