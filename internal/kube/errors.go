package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/simianhq/simian/experiment"
)

// explain says in one line why r was not done, and what to do about it.
func (c *conn) explain(r call, err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s: there is none: %w", r, experiment.ErrGone)
	case apierrors.IsConflict(err):
		return fmt.Errorf("%s: %w", r, errConflict{err})
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: the API server at %s does not accept these credentials: the token or certificate has expired, or was revoked: get a new one (kubectl auth whoami tells)", r, c.host)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s: not allowed%s: it takes the verb %s on %s%s%s (examples/kubernetes/rbac)", r, user(err), r.verb, r.what(), inGroup(r.group), r.in())
	case r.sub == "eviction" && apierrors.IsTooManyRequests(err):
		return fmt.Errorf("evict pod %s/%s: %s: %w", r.namespace, r.name, refusal(err), experiment.ErrBusy)
	}
	var cut net.Error
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return fmt.Errorf("%s: %s", r, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &cut) {
		return fmt.Errorf("%s: reach the API server at %s: %w", r, c.host, lastWord(err))
	}
	return fmt.Errorf("%s: %w", r, err)
}

// errConflict says that the object was changed between reading and writing.
type errConflict struct{ error }

func isConflict(err error) bool {
	var c errConflict
	return errors.As(err, &c)
}

func isGone(err error) bool { return errors.Is(err, experiment.ErrGone) }

// lastWord leaves out the request that an error of the network repeats.
func lastWord(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	return err
}

func inGroup(group string) string {
	if group == "" {
		return ""
	}
	return " of " + group
}

// user names who was refused, as the API server says it: `User "x" cannot …`.
func user(err error) string {
	_, after, found := strings.Cut(err.Error(), `User "`)
	name, _, closed := strings.Cut(after, `"`)
	if !found || !closed {
		return ""
	}
	return " to " + name
}

// refusal says which PodDisruptionBudget refuses an eviction.
func refusal(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Details != nil {
		for _, cause := range status.Status().Details.Causes {
			if cause.Type == metav1.CauseType(policyv1.DisruptionBudgetCause) {
				return "a PodDisruptionBudget refuses: " + strings.TrimSuffix(cause.Message, ".")
			}
		}
	}
	return "a PodDisruptionBudget refuses: " + err.Error()
}
