package credential

import (
	"fmt"
	"net/url"
	"strings"
)

// clientHost returns the tenant's host name that stands in a C1 client id,
// which reads <name>@<host>/<use>, such as
// clever-fox-42195@acme.conductor.one/spc. A port is left out.
func clientHost(id string) (string, error) {
	name, rest, ok := strings.Cut(id, "@")
	host, use, found := strings.Cut(rest, "/")
	if !ok || !found || name == "" || host == "" || use == "" || strings.Contains(rest, "@") {
		return "", fmt.Errorf("read client id %s: want <name>@<host>/<use>", quoted(id))
	}
	u, err := url.Parse("//" + host)
	if err != nil || u.Host != host || u.Hostname() == "" {
		return "", fmt.Errorf("read client id %s: %s is not a host", quoted(id), quoted(host))
	}
	return strings.ToLower(u.Hostname()), nil
}

// checkClient returns an error if a client id belongs to another host than
// the tenant's URL. Host names are compared without regard to case or port.
func checkClient(id string, tenant *url.URL) error {
	host, err := clientHost(id)
	if err != nil {
		return err
	}
	if want := strings.ToLower(tenant.Hostname()); host != want {
		return fmt.Errorf("check client id %s: it is for the host %q, the tenant's URL for %q", quoted(id), host, want)
	}
	return nil
}

// checkURL returns an error if u cannot be a tenant's base URL. Whether plain
// http is acceptable is the configuration's to say.
func checkURL(u *url.URL) error {
	switch {
	case u == nil || u.Hostname() == "" || u.Opaque != "":
		return fmt.Errorf("read tenant URL: it has no host")
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("read tenant URL: want https, have %q", u.Scheme)
	case u.User != nil:
		return fmt.Errorf("read tenant URL: it has a user name") // which may be a secret: not quoted
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "":
		return fmt.Errorf("read tenant URL: it has more than a host")
	}
	return nil
}

// quoted cuts a value to a length fit for a message.
func quoted(s string) string {
	const most = 100
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
