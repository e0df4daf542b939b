package filter

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/internal/proc"
)

var update = flag.Bool("update", false, "rewrite docs/services.md")

func TestServiceNames(t *testing.T) {
	t.Parallel()
	for _, service := range Services() {
		for _, in := range []string{"", "eu-west-1", "cn-north-1"} {
			for _, host := range ServiceHosts(service, in) {
				if err := checkHost(host); err != nil {
					t.Errorf("%s: %v", service, err)
				}
			}
			for _, name := range ServicePatterns(service, in) {
				if err := checkHost(strings.TrimPrefix(name, "*.")); err != nil || strings.Contains(name, "REGION") {
					t.Errorf("%s: %s: %v", service, name, err)
				}
			}
		}
		if len(services[service]) != len(slices.Compact(slices.Sorted(slices.Values(services[service])))) {
			t.Errorf("%s has a name twice", service)
		}
	}
	for _, c := range []struct {
		service, region string
		hosts, patterns string
	}{
		{"aws.s3", "eu-west-1", "s3.eu-west-1.amazonaws.com s3.dualstack.eu-west-1.amazonaws.com s3-eu-west-1.amazonaws.com s3.amazonaws.com", "*.s3.eu-west-1.amazonaws.com *.s3.dualstack.eu-west-1.amazonaws.com *.s3-eu-west-1.amazonaws.com *.s3.amazonaws.com *.s3-accesspoint.eu-west-1.amazonaws.com"},
		{"aws.ec2", "us-gov-west-1", "ec2.us-gov-west-1.amazonaws.com ec2.us-gov-west-1.api.aws ec2.amazonaws.com", ""},
		{"aws.dynamodb", "cn-north-1", "dynamodb.cn-north-1.amazonaws.com.cn streams.dynamodb.cn-north-1.amazonaws.com.cn", "*.ddb.cn-north-1.amazonaws.com.cn"},
		{"gcp.artifacts", "europe-west1", "artifactregistry.googleapis.com europe-west1-docker.pkg.dev", ""},
		{"azure.blob", "", "", "*.blob.core.windows.net"},
	} {
		want := strings.TrimSpace(c.hosts + " " + c.patterns)
		if hosts, all := strings.Join(ServiceHosts(c.service, c.region), " "), strings.Join(ServicePatterns(c.service, c.region), " "); hosts != c.hosts || all != want {
			t.Errorf("%s in %s: %s\n%s", c.service, c.region, hosts, all)
		}
	}
	if hosts, all := ServiceHosts("aws.metadata", ""), ServicePatterns("aws.metadata", ""); len(hosts) != 2 || len(all) > 0 {
		t.Errorf("%v, %v", hosts, all)
	}
}

func TestCheckServices(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		services, region string
		want             string
	}{
		{"", "", ""},
		{"aws.s3 aws.iam", "eu-west-1", ""},
		{"aws.iam", "", ""},
		{"gcp.storage azure.blob", "", ""},
		{"aws.s33", "eu-west-1", `services/0: unknown service "aws.s33" (did you mean "aws.s3"?)` + "\n        services: aws.apigateway "},
		{"aws.iam aws.dynamodb", "", "services/1: aws.dynamodb has names in each region: say region, such as region: eu-west-1"},
		{"aws.s3", "eu west", `region: "eu west" is not the name of a region, such as eu-west-1`},
		{"aws.s3", "Ireland", `region: "Ireland" is not the name of a region, such as eu-west-1`},
		{"aws.iam", "eu-west-1", "region: aws.iam has no names by region: leave region out"},
		{"", "eu-west-1", "region: goes with services only"},
	} {
		f := Filter{Services: strings.Fields(c.services), Region: c.region}
		if got := fmt.Sprint(f.Validate()); c.want == "" && got != "<nil>" || !strings.Contains(strings.ReplaceAll(got, ":\n", "\n"), c.want) {
			t.Errorf("%s in %q: %s, want %s", c.services, c.region, got, c.want)
		}
	}
}

// TestMatchServices resolves services by a target's own hosts(5), which has
// some of their names.
func TestMatchServices(t *testing.T) {
	t.Parallel()
	web, db := newSpace(t, "web"), newSpace(t, "db")
	join(web, db, "eth0")
	web.address("eth0", "10.1.0.1/24")
	write(t, web.Root, "etc/hosts", `10.1.0.7 s3.eu-west-1.amazonaws.com
10.1.0.8 s3.amazonaws.com dynamodb.eu-west-1.amazonaws.com
10.1.0.9 storage.googleapis.com mine
`)
	f := &Filter{Services: []string{"aws.s3", "aws.dynamodb", "aws.metadata", "gcp.storage"}, Region: "eu-west-1", Hosts: []string{"mine"}}
	must(t, f.Validate())
	m, err := f.Match(t.Context(), proc.Host(), web.Target)
	must(t, err)
	want := []string{"10.1.0.7", "10.1.0.8/31", "169.254.169.254", "fd00:ec2::254"}
	if diff := cmp.Diff(want, places(m.Far)); diff != "" {
		t.Error(diff)
	}
	followed := []string{"s3.eu-west-1.amazonaws.com", "s3.amazonaws.com", "dynamodb.eu-west-1.amazonaws.com", "storage.googleapis.com", "mine"}
	if diff := cmp.Diff(followed, m.Names.Hosts); diff != "" {
		t.Error(diff)
	}
	notes := []string{
		"aws.s3: left out, since they do not resolve here: s3.dualstack.eu-west-1.amazonaws.com, s3-eu-west-1.amazonaws.com",
		"aws.s3: names of which there is no list, such as *.s3.eu-west-1.amazonaws.com, are met only where they have the same addresses (the fault dns knows them by pattern)",
		"aws.dynamodb: left out, since they do not resolve here: dynamodb.eu-west-1.api.aws, streams.dynamodb.eu-west-1.amazonaws.com",
		"aws.dynamodb: names of which there is no list, such as *.ddb.eu-west-1.amazonaws.com, are met only where they have the same addresses (the fault dns knows them by pattern)",
		"gcp.storage: names of which there is no list, such as *.storage.googleapis.com, are met only where they have the same addresses (the fault dns knows them by pattern)",
		"gcp.storage: Google serves its interfaces from shared addresses: others fail with it (the fault dns tells them apart)",
	}
	if diff := cmp.Diff(notes, m.Notes); diff != "" {
		t.Error(diff)
	}
	for service, want := range map[string]string{
		"azure.blob": "azure.blob has only names that each account has for itself (*.blob.core.windows.net), which can't be resolved: give yours in hosts, or use the fault dns",
		"aws.iam":    `services/0: aws.iam: "iam.amazonaws.com" does not resolve: no answer from 127.0.0.1`,
	} {
		_, err := (&Filter{Services: []string{service}}).Match(t.Context(), proc.Host(), web.Target)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", service, err)
		}
	}
	before := len(m.Far)
	write(t, web.Root, "etc/hosts", "10.1.0.70 s3.eu-west-1.amazonaws.com\n")
	if changed, _ := m.Refresh(t.Context(), proc.Host()); !changed || len(m.Far) != before+1 || !slices.Contains(m.Far, netip.MustParsePrefix("10.1.0.70/32")) {
		t.Errorf("an address that S3 has come to have is not followed: %v", m.Far)
	}
}

// TestServicesDoc holds docs/services.md against the table.
func TestServicesDoc(t *testing.T) {
	t.Parallel()
	const path = "../../docs/services.md"
	data, err := os.ReadFile(path)
	must(t, err)
	const mark = "<!-- from here on it is made of internal/filter/services_table.go: go test ./internal/filter -run Doc -update -->\n"
	head, _, found := strings.Cut(string(data), mark)
	if !found {
		t.Fatal("it has no mark")
	}
	want := head + mark + servicesDoc()
	if *update {
		must(t, os.WriteFile(path, []byte(want), 0o644))
		return
	}
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("it is not as the table (-update rewrites it):\n%s", diff)
	}
}

func servicesDoc() string {
	var b strings.Builder
	b.WriteString("\n| service | resolved | known by pattern only |\n|---|---|---|\n")
	for _, service := range Services() {
		var cells [2][]string
		for _, name := range services[service] {
			at := 0
			if strings.HasPrefix(name, "*.") {
				at = 1
			}
			cells[at] = append(cells[at], "`"+name+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", service, strings.Join(cells[0], ", "), strings.Join(cells[1], ", "))
	}
	return b.String()
}
