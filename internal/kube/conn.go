package kube

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// conn is a connection to one API server. It knows the few types that Simian
// needs: the scheme of all of Kubernetes' would take milliseconds at each start.
type conn struct {
	host   string
	config *rest.Config
	http   *http.Client
	codecs serializer.CodecFactory

	mu         sync.Mutex
	groups     map[schema.GroupVersion]rest.Interface
	watches    map[podQuery]*podWatch
	asked      map[podQuery]bool
	namespaces map[string]knownNamespace
	wrote      time.Time // when an op last changed something through it
	ends       context.Context
	end        context.CancelFunc
}

func newConn(config *rest.Config) (*conn, error) {
	config = rest.CopyConfig(config)
	config.UserAgent = "simian"
	config.QPS = -1 // it is asked a few things at a time, and must not wait for a budget when it takes back
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("use kubeconfig: %w", err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, policyv1.AddToScheme, autoscalingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	c := &conn{
		host: config.Host, config: config, http: client, codecs: serializer.NewCodecFactory(scheme),
		groups: map[schema.GroupVersion]rest.Interface{}, watches: map[podQuery]*podWatch{},
		asked: map[podQuery]bool{}, namespaces: map[string]knownNamespace{},
	}
	c.ends, c.end = context.WithCancel(context.Background())
	return c, nil
}

func (c *conn) close() {
	c.end()
	c.http.CloseIdleConnections()
}

// group returns the client of one group of the API.
func (c *conn) group(gv schema.GroupVersion) (rest.Interface, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.groups[gv]; ok {
		return known, nil
	}
	config := rest.CopyConfig(c.config)
	config.GroupVersion, config.APIPath = &gv, "/apis"
	if gv.Group == "" {
		config.APIPath = "/api"
	}
	config.NegotiatedSerializer = c.codecs.WithoutConversion()
	one, err := rest.RESTClientForConfigAndClient(config, c.http)
	if err == nil {
		c.groups[gv] = one
	}
	return one, err
}

// call is one request, in the words of RBAC.
type call struct {
	verb      string // get, list, watch, create, patch, update, delete
	group     string // "" is the core group
	resource  string // pods
	sub       string // eviction
	namespace string // "" is all of them, or none
	name      string
}

// String gives "get pods/eviction web-1 in namespace shop".
func (r call) String() string {
	words := r.verb + " " + r.what()
	if r.name != "" {
		words += " " + r.name
	}
	return words + r.in()
}

func (r call) what() string {
	if r.sub != "" {
		return r.resource + "/" + r.sub
	}
	return r.resource
}

func (r call) in() string {
	if r.namespace != "" {
		return " in namespace " + r.namespace
	}
	return ""
}

// request begins what r asks for.
func (c *conn) request(r call) (*rest.Request, error) {
	api, err := c.group(schema.GroupVersion{Group: r.group, Version: "v1"})
	if err != nil {
		return nil, err
	}
	verb := map[string]string{"create": "POST", "patch": "PATCH", "update": "PUT", "delete": "DELETE"}[r.verb]
	if verb == "" {
		verb = "GET"
	}
	q := api.Verb(verb).Resource(r.resource).MaxRetries(0)
	if r.namespace != "" {
		q = q.Namespace(r.namespace)
	}
	if r.name != "" {
		q = q.Name(r.name)
	}
	if r.sub != "" {
		q = q.SubResource(r.sub)
	}
	return q, nil
}

// ask does r, and reads the answer into what it is to be. Its errors say, in
// one line, what was wrong and what to do.
func (c *conn) ask(ctx context.Context, r call, into runtime.Object, with func(*rest.Request)) error {
	q, err := c.request(r)
	if err != nil {
		return err
	}
	if with != nil {
		with(q)
	}
	if r.verb != "get" && r.verb != "list" && r.verb != "watch" {
		defer c.changed()
	}
	result := q.Do(ctx)
	if into == nil {
		return c.explain(r, result.Error())
	}
	return c.explain(r, result.Into(into))
}

// changed notes that something was changed: what watches hold may be older for
// a moment.
func (c *conn) changed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrote = time.Now()
}

// resourceOf is what the API calls the objects of a kind, and their group.
func resourceOf(kind string) (group, resource string) {
	switch kind {
	case "Pod", "Node", "Namespace", "ReplicationController":
		return "", strings.ToLower(kind) + "s"
	case "Job", "CronJob":
		return "batch", strings.ToLower(kind) + "s"
	}
	return "apps", strings.ToLower(kind) + "s"
}
