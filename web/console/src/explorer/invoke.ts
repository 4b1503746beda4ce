import { create, type DescMethodUnary, fromJson, type JsonObject, type JsonValue, type Registry, toJson } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { Transport } from "@connectrpc/connect";
import { type Failure, failureOf } from "../failure";
import type { Method } from "./catalog";

/** What came of a call, once. It is never made again by itself. */
export interface Answer {
  /** The message, or why there is none. */
  readonly json: JsonValue | undefined;
  readonly failure: Failure | undefined;
  readonly requestId: string;
  readonly milliseconds: number;
  /** Headers that say something of limits. */
  readonly headers: readonly (readonly [name: string, value: string])[];
}

/** A read goes in the URL as percent-encoded JSON. Some on the way bound it; a longer one is posted. */
const longestInUrl = 4000;

/** Calls a unary method with a request in protobuf's JSON. It does not throw. */
export async function invoke(transport: Transport, method: Method, request: JsonObject, registry: Registry, headers: Record<string, string>, signal: AbortSignal): Promise<Answer> {
  const begun = performance.now();
  let seen = new Headers();
  let json: JsonValue | undefined;
  let failure: Failure | undefined;
  try {
    const message = fromJson(method.desc.input, request, { registry });
    let desc = method.desc as DescMethodUnary;
    if (encodeURIComponent(JSON.stringify(toJson(desc.input, message, { registry }))).length > longestInUrl) desc = { ...desc, idempotency: MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN };
    const answer = await transport.unary(desc, signal, 0, headers, create(desc.input, message));
    seen = answer.header;
    json = toJson(desc.output, answer.message, { registry });
  } catch (thrown) {
    failure = failureOf(thrown, method.desc);
    if (thrown instanceof Error && "metadata" in thrown && thrown.metadata instanceof Headers) seen = thrown.metadata;
  }
  return {
    json, failure,
    requestId: failure?.requestId || seen.get("x-request-id") || "",
    milliseconds: performance.now() - begun,
    headers: [...seen].filter(([name]) => /^(ratelimit|retry-after)/i.test(name)),
  };
}
