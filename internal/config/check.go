package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
)

// problems collects what the checks of this package find. Their messages show
// names and hosts, once these are known to have the form of one, and no other
// values.
type problems []Problem

// add notes a problem; its place is found later.
func (p *problems) add(path, format string, args ...any) {
	*p = append(*p, Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

// checkConfig finds what the annotations of the schema cannot say. It expects
// a config with defaults, in which other problems may have been found.
func checkConfig(cfg *configv1.Config) []Problem {
	var p problems
	p.tenants(cfg)
	keys := make(map[string]string)
	p.teams(cfg, keys)
	p.operators(cfg.GetAdmin(), keys)
	p.issuers(cfg)
	p.addresses(cfg)
	p.peers(cfg.GetListen())
	p.origins(cfg.GetCors())
	p.console(cfg)
	p.audit(cfg.GetAudit())
	p.sinks(cfg.GetAudit().GetSinks())
	p.traces(cfg.GetTelemetry().GetTraces())
	p.redis(cfg.GetRedis())
	return p
}

// tenants checks each tenant, and that their names differ.
func (p *problems) tenants(cfg *configv1.Config) {
	seen := make(map[string]string)
	for i, tenant := range cfg.GetTenants() {
		path := fmt.Sprintf("tenants[%d]", i)
		p.unique(seen, tenant.GetName(), path)
		p.limit(path+".limit", tenant.GetLimit())
		p.methodLimits(path+".method_limits", tenant.GetMethodLimits(), make(map[string]string))
		p.tenant(path, tenant, cfg)
		p.proxy(path+".proxy", tenant)
		p.places(path+".max_in_flight", tenant, cfg)
	}
}

// teams checks each team, that their names differ, and that their tenants exist.
// keys gets the path of each key's hash.
func (p *problems) teams(cfg *configv1.Config, keys map[string]string) {
	var tenants []string
	for _, tenant := range cfg.GetTenants() {
		tenants = append(tenants, tenant.GetName())
	}
	names := make(map[string]string)
	for i, team := range cfg.GetTeams() {
		path := fmt.Sprintf("teams[%d]", i)
		p.unique(names, team.GetName(), path)
		p.reference(path+".tenant", team.GetTenant(), "tenant", tenants)
		p.callers(path, team, keys, cfg)
		p.rules(path, team)
		p.ownCredential(path+".credential", team, cfg)
		p.limits(path+".limits", team, cfg.GetTenants())
	}
}

// callers finds names that the team has twice, and keys that any team has
// twice: a key must say who calls. keys has the path of each hash's first owner,
// in lower case.
func (p *problems) callers(team string, in *configv1.Team, keys map[string]string, cfg *configv1.Config) {
	names, claimed := make(map[string]string), make(map[string]string)
	for i, caller := range in.GetCallers() {
		path := fmt.Sprintf("%s.callers[%d]", team, i)
		p.unique(names, caller.GetName(), path)
		p.proofs(path, caller, claimed, cfg)
		for j, key := range caller.GetApiKeys() {
			p.key(fmt.Sprintf("%s.api_keys[%d]", path, j), key, keys)
		}
	}
}

// rules finds names that two rules of a team have.
func (p *problems) rules(team string, in *configv1.Team) {
	names := make(map[string]string)
	for i, rule := range in.GetAllow() {
		p.unique(names, rule.GetName(), fmt.Sprintf("%s.allow[%d]", team, i))
	}
}

// unique finds a name that another item of the list has. seen has the path of
// each name's first item. Empty names are missing ones, found elsewhere.
func (p *problems) unique(seen map[string]string, name, path string) {
	if first := seen[name]; first != "" && name != "" {
		p.add(path+".name", "%q is the name of %s too: choose another", name, first)
		return
	}
	seen[name] = path
}

// name is the form of a name, as in the schema: only such a text may be shown.
var name = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// reference finds a name that is not in the list of a kind. It keeps silent
// where the name that is meant may be one that could not be read.
func (p *problems) reference(path, to, kind string, names []string) {
	switch {
	case slices.Contains(names, to):
		return
	case !name.MatchString(to) || len(names) == 0 || slices.Contains(names, ""):
		return // it, or the name that it means, was found wrong elsewhere
	}
	names = slices.DeleteFunc(slices.Clone(names), func(other string) bool { return !name.MatchString(other) })
	words := "the " + kind + "s are " + strings.Join(names[:min(len(names), 5)], ", ")
	if near := nearest(to, names); near != "" {
		words = fmt.Sprintf("did you mean %q?", near)
	}
	p.add(path, "no %s is named %q: %s", kind, to, words)
}

// addresses finds what cannot be listened on. Whether the address is free, and
// this machine's, shows when it is listened on.
func (p *problems) addresses(cfg *configv1.Config) {
	listen, admin := cfg.GetListen().GetAddress(), cfg.GetAdmin().GetAddress()
	for path, address := range map[string]string{"listen.address": listen, "admin.address": admin} {
		if _, _, ok := splitAddress(address); !ok {
			p.add(path, "is not an address: write a host and a port, for example 127.0.0.1:8080")
		}
	}
	host, port, ok := splitAddress(listen)
	if adminHost, adminPort, _ := splitAddress(admin); ok && port != 0 && adminPort == port && adminHost == host {
		p.add("admin.address", "is listen.address too: callers and operators need doors of their own")
	}
}

// splitAddress takes apart host:port; the host may be empty, for every
// interface, and the port 0, for a free one. Service names are no ports here.
func splitAddress(address string) (host string, port uint16, ok bool) {
	host, digits, err := net.SplitHostPort(address)
	number, portErr := strconv.ParseUint(digits, 10, 16)
	ok = err == nil && portErr == nil && (host == "" || isHost(host))
	return host, uint16(number), ok
}

// hostname is a DNS name: labels of letters, digits and "-" (RFC 1123).
var hostname = regexp.MustCompile(`^(?i:[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(?i:\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

// isHost tells whether a text is an IP address or a DNS name.
func isHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return len(host) <= 253 && hostname.MatchString(host) && !numeric(host)
}

// numeric tells whether the last label of a name begins with a digit: some
// resolvers read such a name (127.1, 0x7f.1, 2130706433) as an IP address.
func numeric(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	return last != "" && '0' <= last[0] && last[0] <= '9'
}

// audit finds keys and archives that lie among what they guard. Links are
// resolved where the files are opened.
func (p *problems) audit(audit *configv1.Audit) {
	if audit.GetDir() == "" {
		return
	}
	p.outside("audit.key_file", audit.GetKeyFile(), audit.GetDir(), "whoever can change the log cannot sign it")
	if slices.ContainsFunc(audit.GetFields(), func(rule *configv1.FieldRule) bool { return len(rule.GetHash()) > 0 }) {
		p.outside("audit.hash_keys_file", audit.GetHashKeysFile(), audit.GetDir(), "whoever can read the log cannot guess what it hides")
	}
	retain := audit.GetRetain()
	if retain == nil {
		return
	}
	if retain.GetAge() == nil && retain.Bytes == nil {
		p.add("audit.retain", "has neither age nor bytes, so that nothing would ever be removed")
	}
	if retain.GetArchiveDir() != "" && inside(retain.GetArchiveDir(), audit.GetDir()) {
		p.add("audit.retain.archive_dir", "lies inside audit.dir: what is archived would be taken for a part of the log")
	}
}

// outside checks that a key's file lies outside the audit's directory.
func (p *problems) outside(key, file, dir, so string) {
	switch {
	case file == "":
		p.add(key, "is missing: audit.dir has no name to make a default of")
	case inside(file, dir):
		p.add(key, "lies inside audit.dir: keep it elsewhere, so that %s", so)
	}
}

// inside tells whether path is dir or lies inside it. Without a working
// directory it does not know, and opening the files will fail and say so.
func inside(path, dir string) bool {
	path, pathErr := filepath.Abs(path)
	dir, dirErr := filepath.Abs(dir)
	below, err := filepath.Rel(dir, path)
	return pathErr == nil && dirErr == nil && err == nil && below != ".." && !strings.HasPrefix(below, ".."+string(filepath.Separator))
}
