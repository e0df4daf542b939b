package runtime

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

func TestListed(t *testing.T) {
	t.Parallel()
	protected := map[string]string{"simian.dev/protect": "true"}
	type words struct{ protected, out string }
	const why = "it has the label simian.dev/protect=true"
	for name, c := range map[string]struct {
		c    Container
		want words
	}{
		"runs":              {Container{State: "running", Running: true}, words{}},
		"has ended":         {Container{State: "exited"}, words{"", "exited"}},
		"paused":            {Container{State: "paused", Running: true}, words{"", "paused"}},
		"protected":         {Container{State: "running", Running: true, Labels: protected}, words{why, "protected: " + why}},
		"protected, paused": {Container{State: "paused", Running: true, Labels: protected}, words{why, "paused"}},
	} {
		c.c.Ref, c.c.Name, c.c.PID = experiment.RuntimeRef{Runtime: DockerName}, "web", 7
		want := experiment.Listed{Kind: "docker", Name: "web", Workload: "shop/web", Runtime: "docker", PID: 7, Protected: c.want.protected, Out: c.want.out}
		if d := cmp.Diff(want, c.c.Listed("shop/web")); d != "" {
			t.Errorf("%s (-want +got)\n%s", name, d)
		}
	}
}
