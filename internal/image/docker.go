package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/sys/unix"
)

// docker is the store of the Docker, or Podman, on this machine, asked over
// its socket (Docker Engine API, "Inspect an image" and "Export an image").
type docker struct {
	host string // unix://PATH
}

// localDocker is the Docker that DOCKER_HOST names, else the usual one.
func localDocker() place {
	if h := os.Getenv("DOCKER_HOST"); h != "" {
		return docker{h}
	}
	return docker{"unix:///var/run/docker.sock"}
}

func (d docker) String() string { return "docker" }

// askFor is how long a local store may take to answer a question.
const askFor = 10 * time.Second

// inspected is the part of Docker's description of an image that is read.
type inspected struct {
	ID          string `json:"Id"`
	RepoDigests []string
	OS          string `json:"Os"`
	Arch        string `json:"Architecture"`
	Variant     string
}

func (d docker) stamp(ctx context.Context, w *wanted) (string, error) {
	i, err := d.inspect(ctx, w)
	return i.ID, err
}

func (d docker) find(ctx context.Context, w *wanted) (*found, error) {
	i, err := d.inspect(ctx, w)
	if err != nil {
		return nil, err
	}
	if err := w.platform.check(configFile{OS: i.OS, Architecture: i.Arch, Variant: i.Variant}); err != nil {
		return nil, err
	}
	t, err := d.save(ctx, w, i.ID)
	if err != nil {
		return nil, fmt.Errorf("save it: %w", err)
	}
	f, err := fromDocker(t, "", w.platform)
	if err != nil {
		t.file.Close()
		return nil, fmt.Errorf("read what Docker saved: %w", err)
	}
	f.stamp, f.close = i.ID, func() { t.file.Close() }
	f.manifest = i.manifest(w)
	return f, nil
}

// manifest returns the digest that a registry knows the image by: that asked
// for, for whose being this image's Docker's word is taken, else any.
func (i inspected) manifest(w *wanted) string {
	if d, ok := w.name.(name.Digest); ok {
		return d.DigestStr()
	}
	for _, r := range i.RepoDigests {
		_, digest, _ := strings.Cut(r, "@")
		return digest
	}
	return ""
}

func (d docker) inspect(ctx context.Context, w *wanted) (inspected, error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	var i inspected
	body, err := d.get(ctx, "/images/"+w.raw+"/json")
	if err != nil {
		return i, err
	}
	defer body.Close()
	data, err := readDocument(body)
	if err == nil {
		err = json.Unmarshal(data, &i)
	}
	return i, err
}

// save copies an image's archive into a file without a name.
func (d docker) save(ctx context.Context, w *wanted, id string) (*tarFile, error) {
	body, err := d.get(ctx, "/images/"+id+"/get")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	f, err := spool(ctx, w.tmp, body)
	if err != nil {
		return nil, err
	}
	t, err := indexTar(f)
	if err != nil {
		f.Close()
	}
	return t, err
}

func (d docker) get(ctx context.Context, path string) (io.ReadCloser, error) {
	socket, ok := strings.CutPrefix(d.host, "unix://")
	if !ok {
		return nil, fmt.Errorf("DOCKER_HOST is %s, and only a Docker on this machine is asked (unix://PATH)", d.host)
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "unix", socket)
		},
	}}
	u := url.URL{Scheme: "http", Host: "docker", Path: path}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	r, err := client.Do(req)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, fmt.Errorf("none runs at %s", socket)
	}
	if err != nil {
		return nil, err
	}
	if r.StatusCode == http.StatusOK {
		return r.Body, nil
	}
	defer r.Body.Close()
	return nil, refusal(r)
}

// refusal is what a status other than 200 means.
func refusal(r *http.Response) error {
	if r.StatusCode == http.StatusNotFound {
		return ErrNotThere
	}
	var says struct{ Message string }
	data, _ := io.ReadAll(io.LimitReader(r.Body, 4<<10))
	_ = json.Unmarshal(data, &says)
	return fmt.Errorf("it says %s: %s", r.Status, says.Message)
}
