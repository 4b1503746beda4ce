// Package principal says who is calling.
package principal

// A Principal is a caller whose identity has been proven, acting for exactly
// one team. It is immutable once made and safe for concurrent use.
type Principal struct {
	// Caller is the caller's name, unique within its team.
	Caller string
	// Team is the team that the caller acts for.
	Team string
	// Tenant is the C1 tenant that the team's calls go to. A team has exactly one.
	Tenant string
	// Credential names the proof that was given, such as the first hex digits
	// of an API key's hash. It is never the proof itself.
	Credential string
	// Subject is whom the proof is about, in the words of who issued it: a
	// token's sub, a certificate's name. It is empty for an API key.
	Subject string
	// Claims are what a token holds, as encoding/json decodes it; nil without a
	// token.
	Claims map[string]any
}
