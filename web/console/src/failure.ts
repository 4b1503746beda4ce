import { BinaryReader } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";

/** A call that did not succeed, as the interface shows it. */
export interface Failure {
  readonly code: Code;
  /** The code's name, such as permission_denied. */
  readonly codeName: string;
  /** What happened, in the words of the one who refused or failed. */
  readonly message: string;
  /** The reason of the ErrorInfo, such as METHOD_DENIED; empty without one. */
  readonly reason: string;
  /** Other facts of the ErrorInfo, such as the rule. */
  readonly facts: Readonly<Record<string, string>>;
  /** After how many milliseconds to come again; undefined if waiting is no help. */
  readonly retryAfter?: number;
  /** c1proxy's name for the call; empty if it never came to c1proxy. */
  readonly requestId: string;
}

/** Says of anything thrown what the interface shows. */
export function failureOf(thrown: unknown): Failure {
  const error = ConnectError.from(thrown);
  const info = detail(error, "google.rpc.ErrorInfo", errorInfo);
  const retry = detail(error, "google.rpc.RetryInfo", retryDelay);
  const lost = error.code === Code.Unknown && !error.metadata.has("x-request-id") && !info;
  return {
    code: lost ? Code.Unavailable : error.code,
    codeName: codeName(lost ? Code.Unavailable : error.code),
    message: lost ? "c1proxy cannot be reached" : error.rawMessage || codeName(error.code),
    reason: info?.reason ?? "",
    facts: info?.facts ?? {},
    ...(retry === undefined ? {} : { retryAfter: retry }),
    requestId: error.metadata.get("x-request-id") ?? "",
  };
}

/** The name of a code on the wire. */
export function codeName(code: Code): string {
  return (Code[code] ?? "Unknown").replace(/(?<!^)[A-Z]/g, "_$&").toLowerCase();
}

/** Reasons with which c1proxy itself refuses a call for who makes it, or what it is. */
const refusals = new Set([
  "CALLER_UNKNOWN", "AMBIGUOUS_CALLER", "TEAM_DENIED", "TEAM_REQUIRED", "ORIGIN_DENIED",
  "METHOD_DENIED", "CONDITION_DENIED", "REASON_REQUIRED", "AUDITOR_REQUIRED",
]);

/** Whether c1proxy refused the call by its policy, and not for a fault. */
export function isRefusal(failure: Failure): boolean {
  return refusals.has(failure.reason);
}

/**
 * Whether a call with side effects may have acted although it failed. So it is
 * where the answer is unknown, late or given up, and where none came at all.
 */
export function mayHaveActed(failure: Failure): boolean {
  if (failure.reason === "OUTCOME_UNKNOWN" || failure.reason === "AUDIT_NOT_DURABLE") return true;
  if (failure.requestId === "" && failure.reason === "") return true;
  return [Code.Unknown, Code.DeadlineExceeded, Code.Canceled].includes(failure.code);
}

function detail<T>(error: ConnectError, type: string, read: (bytes: Uint8Array) => T): T | undefined {
  for (const one of error.details) {
    if ("type" in one && one.type === type) {
      try {
        return read(one.value);
      } catch {
        return undefined;
      }
    }
  }
  return undefined;
}

// The two messages of google/rpc/error_details.proto that c1proxy sends.

function errorInfo(bytes: Uint8Array) {
  const facts: Record<string, string> = {};
  let reason = "";
  fields(bytes, (field, reader) => {
    if (field === 1) reason = reader.string();
    else if (field === 3) {
      let key = "";
      let value = "";
      fields(reader.bytes(), (part, inner) => {
        if (part === 1) key = inner.string();
        else if (part === 2) value = inner.string();
        else return false;
        return true;
      });
      facts[key] = value;
    } else return false;
    return true;
  });
  return { reason, facts };
}

function retryDelay(bytes: Uint8Array): number {
  let delay = 0;
  fields(bytes, (field, reader) => {
    if (field !== 1) return false;
    fields(reader.bytes(), (part, inner) => {
      if (part === 1) delay += Number(inner.int64()) * 1000;
      else if (part === 2) delay += inner.int32() / 1e6;
      else return false;
      return true;
    });
    return true;
  });
  return delay;
}

function fields(bytes: Uint8Array, take: (field: number, reader: BinaryReader) => boolean): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag();
    if (!take(field, reader)) reader.skip(wire, field);
  }
}
