package fault

// A Reason is the machine-readable cause of a refusal or failure: the reason
// of a google.rpc.ErrorInfo in the domain "c1proxy", and the field "error" of
// an audit record. The list only grows.
type Reason string

// The reasons. What each means stands in explained, which the documentation
// is checked against.
const (
	Unauthenticated            Reason = "UNAUTHENTICATED"
	AmbiguousCredentials       Reason = "AMBIGUOUS_CREDENTIALS"
	CallerUnknown              Reason = "CALLER_UNKNOWN"
	AmbiguousCaller            Reason = "AMBIGUOUS_CALLER"
	TeamRequired               Reason = "TEAM_REQUIRED"
	TeamDenied                 Reason = "TEAM_DENIED"
	IssuerUnavailable          Reason = "ISSUER_UNAVAILABLE"
	TooManyFailures            Reason = "TOO_MANY_FAILURES"
	OriginDenied               Reason = "ORIGIN_DENIED"
	MethodDenied               Reason = "METHOD_DENIED"
	ConditionDenied            Reason = "CONDITION_DENIED"
	ReasonRequired             Reason = "REASON_REQUIRED"
	RateLimited                Reason = "RATE_LIMITED"
	LimiterUnavailable         Reason = "LIMITER_UNAVAILABLE"
	Overloaded                 Reason = "OVERLOADED"
	BadRequest                 Reason = "BAD_REQUEST"
	BadPathValue               Reason = "BAD_PATH_VALUE"
	NotServed                  Reason = "NOT_SERVED"
	TooLarge                   Reason = "TOO_LARGE"
	AuditUnavailable           Reason = "AUDIT_UNAVAILABLE"
	AuditNotDurable            Reason = "AUDIT_NOT_DURABLE"
	TokenUnavailable           Reason = "TOKEN_UNAVAILABLE"
	UpstreamCredentialRejected Reason = "UPSTREAM_CREDENTIAL_REJECTED"
	UpstreamUnreachable        Reason = "UPSTREAM_UNREACHABLE"
	UpstreamDown               Reason = "UPSTREAM_DOWN"
	UpstreamRefused            Reason = "UPSTREAM_REFUSED"
	UpstreamDenied             Reason = "UPSTREAM_DENIED"
	UpstreamRateLimited        Reason = "UPSTREAM_RATE_LIMITED"
	UpstreamFailed             Reason = "UPSTREAM_FAILED"
	UpstreamUnusable           Reason = "UPSTREAM_UNUSABLE"
	OutcomeUnknown             Reason = "OUTCOME_UNKNOWN"
	DeadlineExceeded           Reason = "DEADLINE_EXCEEDED"
	Canceled                   Reason = "CANCELED"
	ShuttingDown               Reason = "SHUTTING_DOWN"
	StreamEnded                Reason = "STREAM_ENDED"
	AuditDenied                Reason = "AUDIT_DENIED"
	AuditBusy                  Reason = "AUDIT_BUSY"
	AuditUnreadable            Reason = "AUDIT_UNREADABLE"
	RecordNotFound             Reason = "RECORD_NOT_FOUND"
	RecordNotSigned            Reason = "RECORD_NOT_SIGNED"
	Internal                   Reason = "INTERNAL"
)

var explained = map[Reason]string{
	Unauthenticated:            "no credential was given, or it is not one that c1proxy knows",
	AmbiguousCredentials:       "more than one Authorization header was given",
	CallerUnknown:              "the token or the certificate is good, and no caller is configured for it",
	AmbiguousCaller:            "the token or the certificate is that of several callers of one team",
	TeamRequired:               "the caller belongs to several teams and C1proxy-Team does not choose one",
	TeamDenied:                 "the caller does not belong to the team that C1proxy-Team names",
	IssuerUnavailable:          "the keys of the token's issuer cannot be had, so nothing was sent",
	TooManyFailures:            "too many calls from the caller's address failed to authenticate, and this one's credential is not known to be good",
	OriginDenied:               "the call is a web page's, whose origin is not allowed",
	MethodDenied:               "no rule of the caller's team allows the method",
	ConditionDenied:            "rules of the caller's team name the method, and the condition of none holds for the call",
	ReasonRequired:             "a rule of the caller's team requires a reason, which C1proxy-Reason states",
	RateLimited:                "a limit of the caller, its team or its tenant is used up",
	LimiterUnavailable:         "the Redis that holds the limits does not answer, and c1proxy must not decide alone (`redis.on_redis_failure: refuse`): nothing was sent",
	Overloaded:                 "c1proxy has as many calls under way as it accepts, so nothing was sent",
	BadRequest:                 "the request does not read as the method's message",
	BadPathValue:               "a field that becomes part of C1's path is empty or changes the path's meaning",
	NotServed:                  "C1 has no operation with this path, or none with this verb",
	TooLarge:                   "the request is larger than c1proxy accepts",
	AuditUnavailable:           "the audit could not record the intent, so nothing was sent",
	AuditNotDurable:            "the call was sent, but its outcome could not be recorded",
	TokenUnavailable:           "no C1 access token could be had, so nothing was sent",
	UpstreamCredentialRejected: "C1 refuses c1proxy's own credential",
	UpstreamUnreachable:        "no connection to C1 could be had, so nothing was sent",
	UpstreamDown:               "C1 has not answered for a while, so nothing was sent",
	UpstreamRefused:            "C1 refused the request",
	UpstreamDenied:             "C1 denied the request to c1proxy's credential",
	UpstreamRateLimited:        "C1's own rate limit is used up",
	UpstreamFailed:             "C1 failed on a method without side effects",
	UpstreamUnusable:           "C1's answer could not be read, or was a redirect, on a method without side effects",
	OutcomeUnknown:             "the request was sent and may have acted: look at C1 before you repeat it",
	DeadlineExceeded:           "the time allowed for the call ran out",
	Canceled:                   "the caller gave up",
	ShuttingDown:               "c1proxy is stopping and takes no new calls",
	StreamEnded:                "c1proxy stops, its configuration was replaced, or the stream has lasted an hour: begin another one where it ended",
	AuditDenied:                "the audit's records of other teams are for callers with the grant `auditor` alone",
	AuditBusy:                  "as many are reading the audit as c1proxy lets at once",
	AuditUnreadable:            "the audit cannot be read there: it is damaged, or its disk does not answer",
	RecordNotFound:             "the audit has no such record that the caller may see, or retention has removed it",
	RecordNotSigned:            "no signed head covers the record yet",
	Internal:                   "c1proxy failed inside",
}

// Explain says in one line what the reason means, or "" for one unknown.
func (r Reason) Explain() string { return explained[r] }
