import type { Record as AuditRecord } from "@c1proxy/client/gen/c1proxy/v1/audit_pb";
import { MalformedError } from "./text";

/** A value of a record's line. */
export type ProvenValue = string | number | boolean | readonly ProvenValue[] | { readonly [name: string]: ProvenValue };

/** A record as its line in the log has it. The names are those of the log. */
export type ProvenRecord = { readonly [name: string]: ProvenValue };

/**
 * Reads a record's line. A line has one form: what repeats a name, is spaced
 * otherwise, or is not UTF-8 was not written by a gateway.
 */
export function parseRecord(line: Uint8Array): ProvenRecord {
  let text = "";
  let record: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(line);
    record = JSON.parse(text);
  } catch {
    throw new MalformedError("The record in the proof is not JSON.");
  }
  if (record === null || typeof record !== "object" || Array.isArray(record) || canonical(record) !== text) {
    throw new MalformedError("The record in the proof is not in the form that a gateway writes.");
  }
  return record as ProvenRecord;
}

/** Encodes as a gateway does, which escapes what once ended a line of JavaScript. */
function canonical(value: unknown): string {
  return JSON.stringify(value).replace(/[\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16)}`);
}

/** The same record as an answer of AuditService has it, in the form of the log. */
export function asLogged(record: AuditRecord): ProvenRecord {
  const logged: { [name: string]: ProvenValue | undefined } = {
    seq: Number(record.seq),
    id: record.id,
    time: record.time && formatTime(record.time),
    kind: record.kind,
    request_id: record.requestId,
    intent: record.intent,
    client_request_id: record.clientRequestId,
    caller: record.caller,
    team: record.team,
    tenant: record.tenant,
    credential: record.credential,
    procedure: record.procedure,
    door: record.door,
    peer: record.peer,
    policy_revision: record.policyRevision,
    rule: record.rule,
    path: asObject(record.path),
    request: asObject(record.request),
    reason: record.reason,
    error: record.error,
    field: record.field,
    upstream_credential: record.upstreamCredential,
    upstream_status: record.upstreamStatus,
    attempts: record.attempts,
    code: record.code,
    outcome: record.outcome,
    client_gone: record.clientGone,
    duration_us: record.duration && Number(record.duration.seconds) * 1e6 + Math.trunc(record.duration.nanos / 1e3),
    event: record.event,
    detail: Object.fromEntries<string>(Object.entries(record.detail).sort(([a], [b]) => (a < b ? -1 : 1))),
    truncated: record.truncated,
  };
  const kept: { [name: string]: ProvenValue } = {};
  for (const [name, value] of Object.entries(logged)) {
    if (value !== undefined && (name === "seq" || !isEmpty(value))) kept[name] = value;
  }
  return kept;
}

/** The names of the fields in which two records differ. */
export function differences(a: ProvenRecord, b: ProvenRecord): string[] {
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...names].filter((name) => JSON.stringify(a[name]) !== JSON.stringify(b[name]));
}

function asObject(values: readonly { readonly name: string; readonly value: string }[]): { readonly [name: string]: string } {
  return Object.fromEntries(values.map(({ name, value }) => [name, value]));
}

function isEmpty(value: ProvenValue): boolean {
  return typeof value === "object" ? Object.keys(value).length === 0 : !value;
}

/** As RFC 3339, with as many digits of a second as it needs. */
export function formatTime(time: { readonly seconds: bigint; readonly nanos: number }): string {
  const whole = new Date(Number(time.seconds) * 1000).toISOString().slice(0, -".000Z".length);
  const fraction = time.nanos === 0 ? "" : `.${String(time.nanos).padStart(9, "0").replace(/0+$/, "")}`;
  return `${whole}${fraction}Z`;
}
