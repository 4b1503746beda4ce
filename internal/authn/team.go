package authn

import (
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/principal"
)

// maxNamed is how many names a refusal lists.
const maxNamed = 20

// choose returns the one of the callers whose team the header C1proxy-Team
// names; without the header, the only one. headers are the header's values.
func choose(callers []*principal.Principal, headers []string) (*principal.Principal, error) {
	teams := named(callers, func(p *principal.Principal) string { return p.Team })
	switch {
	case len(headers) > 1:
		return nil, ask(teams, "%d C1proxy-Team headers were given: send exactly one, with one of %s", len(headers), list(teams))
	case len(headers) == 0 && len(teams) > 1:
		return nil, ask(teams, "the caller belongs to several teams: say for which one it calls, with the header C1proxy-Team and one of %s", list(teams))
	case len(headers) == 1:
		callers = slices.DeleteFunc(slices.Clone(callers), func(p *principal.Principal) bool { return p.Team != headers[0] })
		if len(callers) == 0 {
			return nil, fault.New(connect.CodePermissionDenied, fault.TeamDenied,
				"the caller does not belong to the team that C1proxy-Team names; it belongs to %s", list(teams)).With("teams", list(teams))
		}
	}
	if len(callers) > 1 {
		names := list(named(callers, func(p *principal.Principal) string { return p.Caller }))
		return nil, fault.New(connect.CodePermissionDenied, fault.AmbiguousCaller,
			"the credential is that of several callers of team %s, %s: an operator must make their conditions exclude each other", callers[0].Team, names).
			With("team", callers[0].Team).With("callers", names)
	}
	return callers[0], nil
}

func ask(teams []string, format string, args ...any) error {
	return fault.New(connect.CodeInvalidArgument, fault.TeamRequired, format, args...).With("teams", list(teams))
}

// named are the different names of the callers, sorted.
func named(callers []*principal.Principal, name func(*principal.Principal) string) []string {
	if len(callers) == 1 {
		return []string{name(callers[0])}
	}
	var names []string
	for _, p := range callers {
		names = append(names, name(p))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// list writes names, with commas.
func list(names []string) string {
	if len(names) > maxNamed {
		return strings.Join(names[:maxNamed], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}
