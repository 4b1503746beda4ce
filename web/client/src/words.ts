/** What happened, and what to do. */
export interface Words {
  readonly title: string;
  readonly advice: string;
}

const operator = "Show an operator of c1proxy the request id.";
const later = "Try again in a moment. Nothing was sent to C1.";
const look = "Look at C1 before you repeat it.";

const words = (title: string, advice: string): Words => ({ title, advice });

/** By reason: c1proxy's, which docs/errors.md lists, and this package's own. */
export const reasonWords: Readonly<Record<string, Words>> = {
  UNAUTHENTICATED: words("You are not signed in", "Sign in again: the key or token was not given, has expired, or is not known."),
  AMBIGUOUS_CREDENTIALS: words("The call shows two credentials", "Let the page send one Authorization header."),
  CALLER_UNKNOWN: words("c1proxy does not know you", "Ask an operator to configure you as a caller: your token is good, but is nobody’s."),
  AMBIGUOUS_CALLER: words("Your token stands for several callers", "Ask an operator to make the callers of your team distinct."),
  TEAM_REQUIRED: words("You belong to several teams", "Choose the team to call for."),
  TEAM_DENIED: words("You do not belong to this team", "Choose one of your teams."),
  ISSUER_UNAVAILABLE: words("Your sign-in cannot be checked", later),
  TOO_MANY_FAILURES: words("Too many calls from your network failed to sign in", "Wait, and check the key or token before you try again."),
  ORIGIN_DENIED: words("This page may not call c1proxy", "Ask an operator to add the page’s origin to cors.allowed_origins."),
  METHOD_DENIED: words("Your team may not do this", "Ask an operator for a rule that allows it."),
  CONDITION_DENIED: words("Your team may not do this with these values", "Your team’s rules have conditions, which this request does not meet."),
  REASON_REQUIRED: words("This needs a reason", "Say why, and try again."),
  RATE_LIMITED: words("Too many calls", "Wait until calls come back."),
  LIMITER_UNAVAILABLE: words("The limits cannot be checked", later),
  OVERLOADED: words("c1proxy is busy", later),
  BAD_REQUEST: words("The request is not valid", "Correct the fields."),
  BAD_PATH_VALUE: words("A value cannot be used", "Correct the field: it becomes part of C1’s path."),
  NOT_SERVED: words("C1 has no such operation", "Check that the page is made for this version of C1."),
  TOO_LARGE: words("The request is too large", "Send less at once."),
  AUDIT_UNAVAILABLE: words("The call cannot be recorded, so it was not sent", later),
  AUDIT_NOT_DURABLE: words("The call was made, and its outcome is not on record", look),
  TOKEN_UNAVAILABLE: words("C1 gave c1proxy no access", later),
  UPSTREAM_CREDENTIAL_REJECTED: words("C1 refuses c1proxy’s credential", `Yours is fine. ${operator}`),
  UPSTREAM_UNREACHABLE: words("C1 cannot be reached", later),
  UPSTREAM_DOWN: words("C1 is down", later),
  UPSTREAM_REFUSED: words("C1 refused it", "Read what C1 says, and reload what you see: it may have changed."),
  UPSTREAM_DENIED: words("C1 does not let c1proxy do this", "Ask an operator to give the tenant’s credential the right."),
  UPSTREAM_RATE_LIMITED: words("C1 takes no more calls for now", "Wait until it does."),
  UPSTREAM_FAILED: words("C1 failed", "Try again in a moment."),
  UPSTREAM_UNUSABLE: words("C1’s answer cannot be read", operator),
  OUTCOME_UNKNOWN: words("It is not known whether it was done", look),
  DEADLINE_EXCEEDED: words("It took too long", "It may still go on. Look at the result before you repeat it."),
  CANCELED: words("The call was given up", "It may still go on. Look at the result before you repeat it."),
  SHUTTING_DOWN: words("c1proxy is restarting", later),
  STREAM_ENDED: words("The stream has ended", "Begin it again where it ended: c1proxy was restarted or configured anew, or an hour was over."),
  AUDIT_DENIED: words("Other teams’ records are not for you", "Look at your own team’s, or ask an operator for the grant auditor."),
  AUDIT_BUSY: words("Too many are reading the audit", "Try again in a moment."),
  AUDIT_UNREADABLE: words("The audit cannot be read", operator),
  RECORD_NOT_FOUND: words("There is no such record", "It is another team’s, or retention has removed it."),
  RECORD_NOT_SIGNED: words("The record is not signed yet", "Try again in a second."),
  INTERNAL: words("c1proxy failed", operator),

  NO_ANSWER: words(
    "No answer came",
    "Check the connection. If it is good, the gateway is down, or its operator has not added this page’s origin to cors.allowed_origins: browsers do not tell pages which.",
  ),
  OFFLINE: words("You are offline", "Connect to the network, and try again."),
  MIXED_CONTENT: words("The browser does not let a secure page call an insecure address", "Have c1proxy serve TLS, and call it with https."),
  BLOCKED_BY_PAGE: words("This page’s own policy blocks the gateway", "Add the gateway, without a path, to connect-src of the page’s Content-Security-Policy."),
  ORIGIN_REFUSED: words(
    "The browser keeps the gateway’s answer from this page",
    "Most likely c1proxy does not know the page’s origin: ask an operator to add {page} to cors.allowed_origins, letter by letter. If it is there, something in front of c1proxy answers in its place: look whether the call was done before you repeat it.",
  ),
  UNREACHABLE: words("c1proxy cannot be reached", "Check its address and certificate, and whether it runs."),
  INTERRUPTED: words("The connection broke", "Try again; if it changes something, look first whether it was done."),
  NO_CREDENTIAL: words("You are not signed in", "Sign in, and try again. Nothing was sent."),
  ABORTED: words("The call was given up", "What was sent goes on. Look at the result before you repeat it."),
  TIMED_OUT: words("It took too long", "What was sent goes on. Look at the result before you repeat it."),
};

/** By code, where no reason is known. */
export const codeWords: Readonly<Record<string, Words>> = {
  canceled: reasonWords["CANCELED"]!,
  unknown: words("It failed, and it is not known how", `${look} ${operator}`),
  invalid_argument: words("The request is not valid", "Correct the fields."),
  deadline_exceeded: reasonWords["DEADLINE_EXCEEDED"]!,
  not_found: words("It is not there", "Reload: it may be gone."),
  already_exists: words("It is there already", "Reload what you see."),
  permission_denied: words("You may not do this", "Ask an operator for a rule that allows it."),
  resource_exhausted: words("Too many calls", "Wait, and try again."),
  failed_precondition: words("It cannot be done now", "Reload what you see: it may have changed."),
  aborted: words("It met another change", "Reload what you see, and try again."),
  out_of_range: words("It is past the end", "Begin again from the start."),
  unimplemented: words("c1proxy does not know this call", "Check the gateway’s address, and that page and gateway are of one version."),
  internal: words("It failed", operator),
  unavailable: words("c1proxy is not available", "Try again in a moment."),
  data_loss: words("Data is lost", operator),
  unauthenticated: reasonWords["UNAUTHENTICATED"]!,
};
