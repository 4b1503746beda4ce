import { type DescMethod } from "@bufbuild/protobuf";
import { type Duration, durationMs, MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { clientDomain, gatewayDomain } from "./domain.js";
import { codeWords, reasonWords, type Words } from "./words.js";

/** What is wrong with a field of the request. */
export interface FieldProblem {
  readonly field: string;
  readonly description: string;
}

/** Why a call failed, as an interface can show it. */
export interface Failure {
  /** The RPC code's name, such as permission_denied. */
  readonly code: string;
  /**
   * Why, for programs: c1proxy's reason, such as METHOD_DENIED (docs/errors.md), one
   * of ClientReason, or "" where nothing says so.
   */
  readonly reason: string;
  /** What happened, in a few words. */
  readonly title: string;
  /** The same in c1proxy's words, or the browser's; "" if they say nothing more. */
  readonly detail: string;
  /** What to do about it. */
  readonly advice: string;
  /** How long to wait before it is tried again; undefined where waiting is not known to help. */
  readonly retryAfterMs: number | undefined;
  /** The fields of the request that are wrong. */
  readonly fields: readonly FieldProblem[];
  /** c1proxy's name for the call, by which its record is found; "" if it is not known. */
  readonly requestId: string;
  /**
   * Whether the call may have had its effect although it failed. Look before you
   * repeat it. False for methods without side effects.
   */
  readonly mayHaveActed: boolean;
  /** What refines the reason, such as rule, teams, scope or upstream_status. */
  readonly metadata: Readonly<Record<string, string>>;
  /** What was explained. */
  readonly error: ConnectError;
}

/**
 * The reasons that c1proxy does not give: no answer came (NO_ANSWER), of which
 * diagnose finds out more (OFFLINE, MIXED_CONTENT, BLOCKED_BY_PAGE, ORIGIN_REFUSED,
 * UNREACHABLE, INTERRUPTED); there is no credential (NO_CREDENTIAL); the page itself
 * gave up (ABORTED) or set the time that is over (TIMED_OUT).
 */
export type ClientReason =
  | "NO_ANSWER" | "OFFLINE" | "MIXED_CONTENT" | "BLOCKED_BY_PAGE" | "ORIGIN_REFUSED" | "UNREACHABLE" | "INTERRUPTED"
  | "NO_CREDENTIAL" | "ABORTED" | "TIMED_OUT";

/**
 * Says why a call failed. Anything that was thrown may be given. Without the method,
 * such as ConnectorService.method.confirmSyncValid, it is taken to have side effects.
 */
export function explain(thrown: unknown, method?: DescMethod): Failure {
  const error = ConnectError.from(thrown);
  const info = error.findDetails(ErrorInfoSchema).find((i) => i.domain === gatewayDomain || i.domain === clientDomain);
  const code = codeName(error.code);
  const reason = info?.reason ?? localReason(error);
  const words: Words = reasonWords[reason] ?? codeWords[code] ?? codeWords["unknown"]!;
  const metadata = { ...info?.metadata };
  return {
    code,
    reason,
    title: words.title,
    detail: error.rawMessage === words.title ? "" : error.rawMessage,
    advice: words.advice,
    retryAfterMs: retryAfter(error),
    fields: fieldsOf(error, metadata),
    requestId: error.metadata.get("X-Request-Id") ?? "",
    mayHaveActed: !isRead(method) && isOpen(error.code, reason),
    metadata,
    error,
  };
}

/** Whether a method has no side effects, so that it may be repeated. */
export function isRead(method: DescMethod | undefined): boolean {
  return method?.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
}

/** The RPC code's name, as Connect writes it. */
function codeName(code: Code): string {
  return Code[code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase();
}

/** The reason of an error that is not c1proxy's. */
function localReason(error: ConnectError): ClientReason | "" {
  if (error.isWireError) return "";
  if (error.code === Code.Canceled) return "ABORTED";
  if (error.code === Code.DeadlineExceeded) return "TIMED_OUT";
  // fetch says nothing else where no answer came, or none that the page may read.
  if (error.cause instanceof TypeError) return "NO_ANSWER";
  return "";
}

/** Reasons and codes that leave open whether the call has acted. */
const openReasons: ReadonlySet<string> = new Set(["OUTCOME_UNKNOWN", "AUDIT_NOT_DURABLE", "DEADLINE_EXCEEDED", "CANCELED", "INTERNAL", "NO_ANSWER", "ABORTED", "TIMED_OUT"]);
const openCodes: ReadonlySet<Code> = new Set([Code.Canceled, Code.Unknown, Code.DeadlineExceeded, Code.Internal, Code.Unavailable, Code.DataLoss]);

function isOpen(code: Code, reason: string): boolean {
  return reason in reasonWords ? openReasons.has(reason) : openCodes.has(code);
}

/** What RetryInfo says, or Retry-After, which pages of another origin see too. */
function retryAfter(error: ConnectError): number | undefined {
  const delay: Duration | undefined = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  if (delay) return Math.max(0, durationMs(delay));
  const text = error.metadata.get("Retry-After")?.trim();
  if (!text) return undefined;
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

function fieldsOf(error: ConnectError, metadata: Record<string, string>): FieldProblem[] {
  const found = error.findDetails(BadRequestSchema).flatMap((bad) => bad.fieldViolations.map(({ field, description }) => ({ field, description })));
  const field = metadata["field"];
  if (field && !found.some((f) => f.field === field)) found.push({ field, description: error.rawMessage });
  return found;
}

/**
 * Finds out why no answer came: a browser tells a page no more than that. It asks the
 * gateway twice without a credential, which is no call: once for an answer that the
 * page may read, and once for one that it may not. What they meet, the call need not
 * have met: mayHaveActed stays as it was, but for MIXED_CONTENT, of which browsers send
 * nothing. Any other failure is explained as explain does.
 */
export async function diagnose(
  thrown: unknown,
  { baseUrl, method, signal, fetch = globalThis.fetch }: { baseUrl: string; method?: DescMethod; signal?: AbortSignal; fetch?: typeof globalThis.fetch },
): Promise<Failure> {
  const failure = explain(thrown, method);
  if (failure.reason !== "NO_ANSWER") return failure;
  const page = globalThis.location?.origin ?? "";
  const gateway = new URL(baseUrl, globalThis.location?.href);
  const as = (reason: ClientReason, detail: string): Failure => {
    const { title, advice } = reasonWords[reason]!;
    return { ...failure, reason, title, detail, advice: advice.replaceAll("{page}", page) };
  };
  if (page.startsWith("https:") && gateway.protocol === "http:" && !isLocal(gateway.hostname)) {
    return { ...as("MIXED_CONTENT", `This page is https, and ${gateway.origin} is not`), mayHaveActed: false };
  }
  // What is found out from here on is of these questions. The call itself may have gone further.
  const blocked = watchPolicy(gateway.origin);
  try {
    const ask = (mode: RequestMode) =>
      fetch(gateway, { mode, credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer", ...(signal && { signal }) }).then(() => true, () => false);
    if (await ask("cors")) return as("INTERRUPTED", `${gateway.origin} answers now`);
    const there = page !== "" && page !== gateway.origin && (await ask("no-cors"));
    signal?.throwIfAborted();
    if (there) return as("ORIGIN_REFUSED", `${gateway.origin} answers, and the browser keeps its answer from pages of ${page}`);
    if (await blocked.seen()) return as("BLOCKED_BY_PAGE", `connect-src of this page's Content-Security-Policy does not allow ${gateway.href}`);
    if (globalThis.navigator?.onLine === false) return as("OFFLINE", "The browser says that it is offline");
    return as("UNREACHABLE", `No connection to ${gateway.origin}`);
  } finally {
    blocked.stop();
  }
}

/** Whether a host is this machine, which browsers let secure pages call without TLS. */
function isLocal(hostname: string): boolean {
  return /^(.+\.)?localhost$|^127(\.\d+){3}$|^\[::1\]$/.test(hostname);
}

/** Watches for the page's own policy to block requests to an origin. */
function watchPolicy(origin: string): { seen(): Promise<boolean>; stop(): void } {
  const target = globalThis.document;
  let seen = false;
  const note = (event: SecurityPolicyViolationEvent) => {
    if (event.blockedURI.startsWith(origin)) seen = true;
  };
  target?.addEventListener("securitypolicyviolation", note);
  return {
    // The event comes after fetch has failed, in a task of its own.
    seen: () => new Promise((resolve) => setTimeout(() => resolve(seen), 0)),
    stop: () => target?.removeEventListener("securitypolicyviolation", note),
  };
}
