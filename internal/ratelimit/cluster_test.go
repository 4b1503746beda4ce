package ratelimit_test

import (
	"testing"

	"github.com/c1proxy/c1proxy/internal/ratelimit"
	"github.com/c1proxy/c1proxy/internal/redistest"
)

// TestFleetCluster: all keys of a decision are in one slot, and a node that has
// lost its slots is no answer.
func TestFleetCluster(t *testing.T) {
	server := redistest.StartTCP(t, "--cluster-enabled", "yes")
	server.Do("CLUSTER ADDSLOTSRANGE 0 16383\r\n")
	eventually(t, "the cluster is up", func() bool { return server.Do("SET {acme} 1\r\n") == "+OK\r\n" })
	a, b := openFleet(t, server, nil), openFleet(t, server, nil)
	back(t, a)
	back(t, b)
	rules := threeRules("sync-bot", "payments")
	rules[1] = hourly(10)
	rules[2].Most = 100
	set := &ratelimit.Set{Tenant: "acme", Rules: rules}
	for range 4 {
		if v := spend(t, a, set); !v.Allowed || v.Local {
			t.Fatalf("%+v, %+v, want allowed by the cluster", v, a.State())
		}
	}
	if n := drain(t, b, set); n != 6 || b.State().Failures != 0 {
		t.Errorf("the second replica got %d, %+v, want 10 - 4", n, b.State())
	}
	server.Do("CLUSTER DELSLOTSRANGE 0 16383\r\n")
	eventually(t, "the replica goes on alone", func() bool { return spend(t, a, set).Local })
}

// TestFleetUser: c1proxy needs no more of Redis than docs/gateway.md says.
func TestFleetUser(t *testing.T) {
	server := redistest.Start(t, "--user", "c1proxy", "on", ">secret", "~c1proxy:*", "+hello", "+auth", "+ping", "+cluster|slots", "+cluster|shards",
		"+eval", "+evalsha", "+get", "+set", "+time", "+zadd", "+zrem", "+zcount", "+zremrangebyscore", "+pttl", "+pexpire")
	password := "secret"
	as := func(cfg *ratelimit.RedisConfig) {
		cfg.Username, cfg.Password = "c1proxy", func() (string, error) { return password, nil }
	}
	a := openFleet(t, server, as)
	rule := hourly(10)
	rule.Most = 5
	v := spend(t, a, setOf(rule))
	if !v.Allowed || v.Local {
		t.Fatalf("%+v, %+v, want allowed by Redis", v, a.State())
	}
	cutOff(t, server, a)
	server.Restart()
	back(t, a)
	a.Release(setOf(rule), v)
	eventually(t, "the place is given back", func() bool { return server.Do("EXISTS c1proxy:{acme}:team:payments:places\r\n") == ":0\r\n" })
	if s := a.State(); s.Switches != 1 {
		t.Errorf("%+v, want that Redis was lost once", s)
	}
	password = "wrong"
	if b := openFleet(t, server, as); !b.State().Down || b.State().Why == nil {
		t.Errorf("with a wrong password: %+v, want that Redis is down", b.State())
	}
}
