import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Filter } from "./audit-feed";

/** What the address of the view says is wanted. Each is empty where all are. */
export interface Wanted {
  /** A preset of how long ago, such as 24h. It goes before from and until. */
  readonly last: string;
  /** RFC 3339 */
  readonly from: string;
  readonly until: string;
  readonly team: string;
  readonly caller: string;
  readonly method: string;
  readonly outcome: string;
  readonly kind: string;
  readonly request_id: string;
  readonly intent: string;
  readonly error: string;
  /** name=value, or a value of any name. */
  readonly value: string;
  /** all shows calls to c1proxy's own API too, where they are left out otherwise. */
  readonly calls: string;
}

/** The presets of time, and their milliseconds. */
export const presets: Readonly<Record<string, readonly [title: string, ms: number]>> = {
  "15m": ["Last 15 minutes", 15 * 60_000],
  "1h": ["Last hour", 3_600_000],
  "24h": ["Last 24 hours", 86_400_000],
  "7d": ["Last 7 days", 7 * 86_400_000],
  "30d": ["Last 30 days", 30 * 86_400_000],
};

/** The names of what is wanted, as the address has them. */
export const wantedNames = [
  "last", "from", "until", "team", "caller", "method", "outcome", "kind", "request_id", "intent", "error", "value", "calls",
] as const satisfies readonly (keyof Wanted)[];

/** Reads what is wanted from an address. */
export function readWanted(params: URLSearchParams): Wanted {
  return Object.fromEntries(wantedNames.map((name) => [name, params.get(name)?.trim() ?? ""])) as unknown as Wanted;
}

/** What is wrong with a time in the address; undefined if nothing is. */
export function badTime(wanted: Wanted): string | undefined {
  for (const name of ["from", "until"] as const) {
    if (wanted[name] !== "" && Number.isNaN(Date.parse(wanted[name]))) return `“${wanted[name]}” is no time: ${name} takes one such as 2026-01-31T09:30:00Z.`;
  }
  if (wanted.last !== "" && !Object.hasOwn(presets, wanted.last)) return `“${wanted.last}” is none of ${Object.keys(presets).join(", ")}.`;
  if (wanted.from !== "" && wanted.until !== "" && Date.parse(wanted.from) >= Date.parse(wanted.until)) return "The search ends before it begins: set From before Until.";
  return undefined;
}

/** Whether a record that comes now can be wanted. */
export function takesNew(wanted: Wanted, now: number): boolean {
  return wanted.last !== "" || wanted.until === "" || Date.parse(wanted.until) > now;
}

/** c1proxy's own API, which this page calls all the time. */
const ownCalls = "c1proxy.**/*";

/** Whether own calls may be left out: not where a method or one call is asked for, which may be theirs. */
export function mayLeaveOut(wanted: Wanted): boolean {
  return wanted.method === "" && wanted.request_id === "" && wanted.intent === "";
}

/** Whether own calls are left out. They are, unless one says otherwise. */
export function leavesOut(wanted: Wanted): boolean {
  return mayLeaveOut(wanted) && wanted.calls !== "all";
}

/** The filter of the API for what is wanted. */
export function filterOf(wanted: Wanted, now: number): Filter {
  const { team, caller, method, outcome, kind, request_id: requestId, intent, error, value } = wanted;
  const preset = presets[wanted.last];
  const since = preset ? now - preset[1] : wanted.from === "" ? undefined : Date.parse(wanted.from);
  const until = preset || wanted.until === "" ? undefined : Date.parse(wanted.until);
  const cut = value.indexOf("=");
  return {
    team, caller, method: method.replace(/^\//, ""), notMethod: leavesOut(wanted) ? ownCalls : "", outcome, kind, requestId, intent, error,
    ...(since === undefined ? {} : { since: timestampFromMs(since) }),
    ...(until === undefined ? {} : { until: timestampFromMs(until) }),
    values: value === "" ? [] : [{ name: value.slice(0, Math.max(cut, 0)), value: value.slice(cut + 1) }],
  };
}
