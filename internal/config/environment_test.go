package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
)

// environment is every variable that is read.
var environment = []string{
	"CONDUCTORONE_ACCESS_TOKEN", "CONDUCTORONE_OIDC_TOKEN", "CONDUCTORONE_CLIENT_ID",
	"CONDUCTORONE_CLIENT_SECRET", "CONDUCTORONE_TENANT_DOMAIN", "CONDUCTORONE_SERVER_URL",
}

const id = "clever-fox-42195@acme.conductor.one/spc"

// getenv looks up NAME=value words; names leave out the prefix CONDUCTORONE_.
func getenv(words string) func(string) string {
	values := make(map[string]string)
	for _, word := range strings.Fields(words) {
		name, value, _ := strings.Cut(word, "=")
		values["CONDUCTORONE_"+name] = value
	}
	return func(name string) string { return values[name] }
}

func TestFromEnvironment(t *testing.T) {
	token := &configv1.Credential{AccessToken: &configv1.Secret{Env: "CONDUCTORONE_ACCESS_TOKEN"}}
	oidc := &configv1.Credential{ClientId: id, SubjectToken: &configv1.Secret{Env: "CONDUCTORONE_OIDC_TOKEN"}}
	secret := &configv1.Credential{ClientId: id, ClientSecret: &configv1.Secret{Env: "CONDUCTORONE_CLIENT_SECRET"}}
	for _, test := range []struct {
		environment, url string
		credential       *configv1.Credential
	}{
		{"", "", nil},
		{"CLIENT_ID= CLIENT_SECRET=", "", nil},
		{"CLIENT_SECRET=s CLIENT_ID=" + id, "https://acme.conductor.one", secret},
		{"OIDC_TOKEN=t CLIENT_ID=" + id, "https://acme.conductor.one", oidc},
		{"OIDC_TOKEN=t CLIENT_SECRET=s CLIENT_ID=" + id, "https://acme.conductor.one", oidc},
		{"ACCESS_TOKEN=t OIDC_TOKEN=t CLIENT_SECRET=s CLIENT_ID=" + id, "https://acme.conductor.one", token},
		{"ACCESS_TOKEN=t TENANT_DOMAIN=acme", "https://acme.conductor.one", token},
		{"ACCESS_TOKEN=t TENANT_DOMAIN=Acme.conductor.one", "https://acme.conductor.one", token},
		{"ACCESS_TOKEN=t SERVER_URL=https://acme.example.com/", "https://acme.example.com", token},
		{"ACCESS_TOKEN=t SERVER_URL=acme.example.com", "https://acme.example.com", token},
		{"ACCESS_TOKEN=t SERVER_URL=https://acme.conductor.one TENANT_DOMAIN=acme", "https://acme.conductor.one", token},
	} {
		got, err := config.FromEnvironment(getenv(test.environment))
		if err != nil {
			t.Errorf("%s: %v", test.environment, err)
			continue
		}
		var want *configv1.Tenant
		if test.credential != nil {
			want = &configv1.Tenant{Name: "default", Url: test.url, Credential: test.credential}
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", test.environment, diff)
		}
	}
}

func TestFromEnvironmentProblems(t *testing.T) {
	for _, test := range []struct{ environment, want string }{
		{"CLIENT_ID=" + id, "CONDUCTORONE_CLIENT_ID stands alone: set CONDUCTORONE_CLIENT_SECRET or CONDUCTORONE_OIDC_TOKEN too"},
		{"CLIENT_SECRET=" + canary, "CONDUCTORONE_CLIENT_SECRET stands alone: set CONDUCTORONE_CLIENT_ID too"},
		{"OIDC_TOKEN=" + canary, "CONDUCTORONE_OIDC_TOKEN stands alone: set CONDUCTORONE_CLIENT_ID too"},
		{"SERVER_URL=" + canary, "CONDUCTORONE_SERVER_URL is set without a credential: set CONDUCTORONE_CLIENT_ID and CONDUCTORONE_CLIENT_SECRET too"},
		{"TENANT_DOMAIN=" + canary, "CONDUCTORONE_TENANT_DOMAIN is set without a credential: set CONDUCTORONE_CLIENT_ID and CONDUCTORONE_CLIENT_SECRET too"},
		{"ACCESS_TOKEN=" + canary, "nothing names the tenant: set CONDUCTORONE_TENANT_DOMAIN, for example acme.conductor.one"},
		{"CLIENT_SECRET=s CLIENT_ID=" + canary, "CONDUCTORONE_CLIENT_ID is not a client id: set it as C1 gave it out, ID@HOST/USE"},
		{"CLIENT_SECRET=s CLIENT_ID=x@127.0.0.1:8081/spc", "CONDUCTORONE_CLIENT_ID has a port: remove it (a port is only for tests and the sandbox, written in the configuration with allow_insecure: true)"},
		{"CLIENT_SECRET=s TENANT_DOMAIN=acme CLIENT_ID=" + canary, "CONDUCTORONE_CLIENT_ID is not a client id: write it as C1 gave it out, for example clever-fox-42195@acme.conductor.one/spc"},
		{"CLIENT_SECRET=s TENANT_DOMAIN=other CLIENT_ID=" + id, "CONDUCTORONE_CLIENT_ID belongs to acme.conductor.one, but the tenant's url names other.conductor.one: write a client id of this tenant, or its url"},
		{"ACCESS_TOKEN=t TENANT_DOMAIN=other SERVER_URL=https://acme.conductor.one", "CONDUCTORONE_SERVER_URL and CONDUCTORONE_TENANT_DOMAIN name different hosts: unset one of them"},
		{"ACCESS_TOKEN=t SERVER_URL=http://acme.conductor.one", "CONDUCTORONE_SERVER_URL is plain http, which shows tokens to the network: write https:// (http is only for tests and the sandbox, written in the configuration with allow_insecure: true)"},
		{"ACCESS_TOKEN=t SERVER_URL=https://" + canary + "@acme.conductor.one", "CONDUCTORONE_SERVER_URL holds a user or a password: remove it, what c1proxy proves itself with stands in credential"},
		{"ACCESS_TOKEN=t TENANT_DOMAIN=acme.conductor.one/x", "CONDUCTORONE_TENANT_DOMAIN has a path: remove all that follows the host, also a / at the end"},
	} {
		tenant, err := config.FromEnvironment(getenv(test.environment))
		if tenant != nil || err == nil || err.Error() != "read environment: "+test.want {
			t.Errorf("%s: %v, %v", test.environment, tenant, err)
		}
	}
}
