import { Code } from "@connectrpc/connect";
import { codeName, type Failure } from "./failure";

const byReason: Readonly<Record<string, string>> = {
  UNAUTHENTICATED: "Check the key or sign in again. A key that was replaced is refused at once.",
  CALLER_UNKNOWN: "Your sign-in is good, but no caller of c1proxy's configuration is you. Ask its operator to add you to a team.",
  AMBIGUOUS_CALLER: "Several callers of one team are you. Ask c1proxy's operator to tell them apart.",
  TEAM_DENIED: "Choose one of your own teams.",
  TEAM_REQUIRED: "Choose a team.",
  ORIGIN_DENIED: "This page's address is not the one that c1proxy is called at. Open the console at c1proxy's own address.",
  METHOD_DENIED: "No rule of your team allows this method. If you need it, ask c1proxy's operator for a rule, and name the method.",
  CONDITION_DENIED: "A rule of your team names this method, but its condition does not hold for this call. Change the call, or ask c1proxy's operator.",
  REASON_REQUIRED: "The rule wants to know why. State a reason and call again.",
  RATE_LIMITED: "A limit is used up. Access shows which limits hold, and what is left of each.",
  LIMITER_UNAVAILABLE: "Nothing was sent. Try again; if it stays so, c1proxy's operator must look at Redis.",
  OVERLOADED: "Nothing was sent. Try again in a moment.",
  AUDIT_UNAVAILABLE: "Nothing was sent. c1proxy cannot write its audit: tell its operator.",
  AUDIT_NOT_DURABLE: "The call was sent, but what became of it could not be recorded. Look at C1 before anything else.",
  TOKEN_UNAVAILABLE: "Nothing was sent. c1proxy has no token for C1: tell its operator.",
  UPSTREAM_CREDENTIAL_REJECTED: "C1 refuses c1proxy's own credential: tell c1proxy's operator.",
  UPSTREAM_UNREACHABLE: "Nothing was sent. Try again; if it stays so, tell c1proxy's operator.",
  UPSTREAM_DOWN: "Nothing was sent. C1 has not answered for a while: try again later.",
  UPSTREAM_DENIED: "C1 does not let c1proxy's credential do this. Ask an administrator of C1.",
  UPSTREAM_RATE_LIMITED: "C1's own limit is used up. Wait, then try again.",
  UPSTREAM_FAILED: "C1 failed. Try again; if it stays so, ask C1's support, with the request id.",
  UPSTREAM_UNUSABLE: "C1's answer could not be read. Try again; if it stays so, tell c1proxy's operator.",
  OUTCOME_UNKNOWN: "It may have acted. Look at C1 before you do anything again.",
  NOT_SERVED: "C1 does not have this operation for your tenant.",
  ISSUER_UNAVAILABLE: "The keys of your token's issuer cannot be had. Try again in a moment.",
  TOO_MANY_FAILURES: "Too many sign-ins from your address failed. Wait, then try again with the right key.",
  SHUTTING_DOWN: "c1proxy is stopping. Try again in a moment.",
  AUDITOR_REQUIRED: "Only an auditor sees this. Ask c1proxy's operator for the grant.",
};

const byCode: Partial<Record<Code, string>> = {
  [Code.InvalidArgument]: "Change what was asked, and call again.",
  [Code.NotFound]: "It is not there, or not any more. Look whether the ids are right.",
  [Code.FailedPrecondition]: "C1 does not do this in the state that things are in.",
  [Code.PermissionDenied]: "Ask those who gave you your access.",
  [Code.DeadlineExceeded]: "No answer came in time. What was sent may still act.",
  [Code.Canceled]: "The call was given up.",
  [Code.Unavailable]: "Look whether you are connected, then try again.",
  [Code.Unauthenticated]: "Sign in again.",
  [Code.Unimplemented]: "This c1proxy is older than the console, or does not have it switched on.",
};

/** What to do about a failed call, in a sentence or two. */
export function advice(failure: Failure): string {
  const text = byReason[failure.reason] ?? byCode[failure.code] ?? "Try again; if it stays so, tell c1proxy's operator the request id.";
  if (failure.retryAfter === undefined) return text;
  return `${text} It is worth another try in ${waiting(failure.retryAfter)}.`;
}

function waiting(ms: number): string {
  const seconds = Math.max(1, Math.ceil(ms / 1000));
  if (seconds < 90) return `${seconds} ${seconds === 1 ? "second" : "seconds"}`;
  return `${Math.ceil(seconds / 60)} minutes`;
}

/** What to do about a call that a record tells of, by its reason and its code's name. */
export function adviceFor(reason: string, code: string): string {
  return byReason[reason] ?? byName.get(code) ?? "";
}

const byName = new Map(Object.entries(byCode).map(([code, text]) => [codeName(Number(code)), text]));
