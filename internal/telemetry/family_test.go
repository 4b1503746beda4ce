package telemetry_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/c1proxy/c1proxy/internal/telemetry"
)

// A family holds what is there at the scrape; a tenant and an issuer that are
// forgotten are gone, and no other.
func TestFamily(t *testing.T) {
	metrics := telemetry.New()
	tenants := []string{"acme", "globex"}
	read := func(emit func(float64, ...string)) {
		for i, name := range tenants {
			emit(float64(i), name)
		}
	}
	metrics.Gauges("level", "A level.", []string{"tenant"}, read)
	metrics.Counters("count_total", "A count.", []string{"tenant"}, read)
	for _, name := range tenants {
		metrics.Tenant(name).Sent(200)
		metrics.Exchanges(name)("id", "ok", 0)
		metrics.Issuer(name)(true)
	}
	scrape := func() string {
		w := httptest.NewRecorder()
		metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.String()
	}
	text := scrape()
	for _, want := range []string{"# TYPE level gauge", "# TYPE count_total counter", `level{tenant="globex"} 1`, `count_total{tenant="acme"} 0`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	tenants = tenants[:1]
	metrics.ForgetTenant("globex")
	metrics.ForgetIssuer("globex")
	if text := scrape(); strings.Contains(text, "globex") || strings.Count(text, `"acme"`) < 2+6+1+2 {
		t.Errorf("after globex is gone:\n%s", text)
	}
}
