import type { DescMethod } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { explain } from "@c1proxy/client/helpers/errors";
import { codeWords, reasonWords } from "@c1proxy/client/helpers/words";

/** A call that did not succeed, as the interface shows it. */
export interface Failure {
  readonly code: Code;
  /** The code's name, such as permission_denied. */
  readonly codeName: string;
  /** What happened, in a few words. */
  readonly title: string;
  /** What happened, in the words of the one who refused or failed. */
  readonly message: string;
  /** What to do about it. */
  readonly advice: string;
  /** The reason, such as METHOD_DENIED; empty without one. */
  readonly reason: string;
  /** Other facts of it, such as the rule. */
  readonly facts: Readonly<Record<string, string>>;
  /** After how many milliseconds to come again; undefined if waiting is not known to help. */
  readonly retryAfter?: number | undefined;
  /** c1proxy's name for the call; empty if it is not known. */
  readonly requestId: string;
  /** Whether the call may have had its effect although it failed. */
  readonly mayHaveActed: boolean;
}

/**
 * Says of anything thrown what the interface shows. Without the method the call is
 * taken to have side effects.
 */
export function failureOf(thrown: unknown, method?: DescMethod): Failure {
  const { code, title, detail, advice, reason, metadata, retryAfterMs, requestId, mayHaveActed, error } = explain(thrown, method);
  return {
    code: error.code, codeName: code, title, advice, reason, requestId, mayHaveActed, facts: metadata, retryAfter: retryAfterMs,
    message: reason === "NO_ANSWER" ? "c1proxy did not answer" : detail || title,
  };
}

/** What to do about a call that a record tells of, by its reason and its code's name. */
export function adviceFor(reason: string, codeName: string): string {
  return (reasonWords[reason] ?? codeWords[codeName])?.advice ?? "";
}

/** What happened to a call that a record tells of, in a few words. */
export function titleFor(reason: string, codeName: string): string {
  return (reasonWords[reason] ?? codeWords[codeName])?.title ?? (reason || codeName);
}

/** Reasons with which c1proxy itself refuses a call for who makes it, or what it is. */
const refusals = new Set([
  "CALLER_UNKNOWN", "AMBIGUOUS_CALLER", "TEAM_DENIED", "TEAM_REQUIRED", "ORIGIN_DENIED",
  "METHOD_DENIED", "CONDITION_DENIED", "REASON_REQUIRED",
]);

/** Whether c1proxy refused the call by its policy, and not for a fault. */
export function isRefusal(failure: Failure): boolean {
  return refusals.has(failure.reason);
}
