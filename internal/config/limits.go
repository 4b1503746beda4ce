package config

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
)

// maxRefill is the longest that an empty burst may take to fill again. It
// keeps the limiter's arithmetic, in nanoseconds, far from overflow.
const maxRefill = 365 * 24 * time.Hour

// maxMethodLimits is how many limits on methods a tenant or a team may have, so
// that no call is held to more than the limiter takes at once.
const maxMethodLimits = 30

// limit finds a limit that limits nothing, or half a rate, and a burst that takes
// too long to fill again.
func (p *problems) limit(path string, limit *configv1.Limit) {
	if limit == nil {
		return
	}
	missing := slices.DeleteFunc([]string{"rate", "per", "burst"}, func(key string) bool {
		return key == "rate" && limit.Rate != nil || key == "per" && limit.GetPer() != nil || key == "burst" && limit.Burst != nil
	})
	switch {
	case len(missing) == 3 && limit.MaxInFlight == nil:
		p.add(path, "limits nothing: write rate, per and burst, or max_in_flight")
	case len(missing) == 1 || len(missing) == 2:
		for _, key := range missing {
			p.add(path+"."+key, "is missing: rate, per and burst go together")
		}
	case limit.GetRate() != 0:
		refill := limit.GetPer().AsDuration().Seconds() * float64(limit.GetBurst()) / float64(limit.GetRate())
		if refill > maxRefill.Seconds() {
			p.add(path, "an empty burst would take longer than a year to fill again: lower burst or per, or raise rate")
		}
	}
}

// scopes are the names of limits that are not on methods.
var scopes = []string{"caller", "team", "tenant"}

// methodLimits checks limits on methods, and that a call is held to no two of one
// name: seen has the names that are taken.
func (p *problems) methodLimits(path string, limits []*configv1.MethodLimit, seen map[string]string) {
	if len(limits) > maxMethodLimits {
		p.add(path, "has %d limits, more than %d: put methods together", len(limits), maxMethodLimits)
	}
	for i, l := range limits {
		at := fmt.Sprintf("%s[%d]", path, i)
		if slices.Contains(scopes, l.GetName()) {
			p.add(at+".name", "%q is the name of another kind of limit: choose another", l.GetName())
		}
		p.unique(seen, l.GetName(), at)
		p.limit(at+".limit", l.GetLimit())
	}
}

// limits checks the limits of a team, whose calls are held to those of its tenant
// too.
func (p *problems) limits(path string, team *configv1.Team, tenants []*configv1.Tenant) {
	in := team.GetLimits()
	p.limit(path+".team", in.GetTeam())
	p.limit(path+".caller", in.GetCaller())
	seen := make(map[string]string)
	for i, tenant := range tenants {
		if tenant.GetName() == team.GetTenant() {
			for j, l := range tenant.GetMethodLimits() {
				seen[l.GetName()] = fmt.Sprintf("tenants[%d].method_limits[%d]", i, j)
			}
		}
	}
	p.methodLimits(path+".methods", in.GetMethods(), seen)
}

// redis checks where Redis is, and how it is spoken to.
func (p *problems) redis(redis *configv1.Redis) {
	for i, address := range redis.GetAddresses() {
		host, port, ok := splitAddress(address)
		if !strings.HasPrefix(address, "/") && (!ok || host == "" || port == 0) {
			p.add(fmt.Sprintf("redis.addresses[%d]", i), "is not the address of a server: write its host and port, for example %s, or the path of its socket",
				net.JoinHostPort("redis.example.com", "6379"))
		}
	}
	if redis.GetCaFile() != "" && !redis.GetTls() {
		p.add("redis.ca_file", "is for TLS alone: remove it, or write tls: true")
	}
	if redis.GetUsername() != "" && redis.GetPassword() == nil {
		p.add("redis.username", "has no password beside it: write both, or neither")
	}
}
