package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
)

const wantEndpoint = "write https:// and the collector's host, for example https://otel-collector.example.com:4318"

// exportHeaders are the header fields that each export has already, or that
// belong to the connection.
var exportHeaders = []string{
	"connection", "content-encoding", "content-length", "content-type", "host", "keep-alive", "te", "trailer",
	"transfer-encoding", "upgrade", "user-agent",
}

// traces checks where traces go, if they go anywhere.
func (p *problems) traces(traces *configv1.Traces) {
	if problem := endpointProblem(traces.GetEndpoint(), traces.GetAllowInsecure()); problem != "" {
		p.add("telemetry.traces.endpoint", "%s", problem)
	}
	seen := make(map[string]string)
	for i, header := range traces.GetHeaders() {
		path := fmt.Sprintf("telemetry.traces.headers[%d]", i)
		p.unique(seen, header.GetName(), path)
		if slices.Contains(exportHeaders, header.GetName()) {
			p.add(path+".name", "is c1proxy's own to write: remove this header")
		}
	}
}

// endpointProblem says what is wrong with a collector's URL; "" if nothing is,
// or if there is none, which is said elsewhere. Nothing of the URL is shown: it
// may hold a key.
func endpointProblem(raw string, insecure bool) string {
	if raw == "" {
		return ""
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "is not the URL of a collector: " + wantEndpoint
	}
	_, problem := portOf(u)
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return "is not an http or https URL: " + wantEndpoint + " (OTLP over gRPC, port 4317, is not spoken)"
	case u.User != nil:
		return "holds a user or a password: remove it, and write a header named authorization"
	case u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(raw, "?#"):
		return "has a query or a fragment: remove it"
	case problem != "":
		return problem
	case !isHost(u.Hostname()):
		return "has no valid host: " + wantEndpoint
	case strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), "/v1/traces"):
		return "ends with /v1/traces: remove that, c1proxy adds it"
	case u.Scheme == "http" && !insecure && !loopback(u.Hostname()):
		return "is plain http to another machine, which shows the headers to the network: write https://, or allow_insecure: true beside it"
	}
	return ""
}
