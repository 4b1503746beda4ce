import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor, type Transport } from "@connectrpc/connect";
import { type ConnectTransportOptions, createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { clientDomain } from "./domain.js";

/**
 * An API key or an access token of an OIDC issuer, or what returns one. A function is
 * asked for each call, so that it can refresh a token that is about to expire; it gets
 * the call's signal.
 */
export type Credential = string | ((signal: AbortSignal) => string | Promise<string>);

/** Who calls, for which team, and why. */
export interface Identity {
  /** Sent in the Authorization header, and nowhere else. */
  readonly credential: Credential;
  /** The team to call for. A caller who belongs to several must choose one. */
  readonly team?: string | undefined;
  /** Why the calls are made, where a call does not say so itself: see because. */
  readonly reason?: string | undefined;
}

/** Where the gateway is, who calls, and how. */
export interface TransportOptions extends Identity {
  /** The gateway's URL, such as https://c1proxy.example.com. */
  readonly baseUrl: string;
  /** connect, which is JSON by default and reads by GET, or grpc-web; connect. */
  readonly protocol?: "connect" | "grpc-web" | undefined;
  /** Whether methods without side effects go by GET, with Connect; true. */
  readonly useHttpGet?: boolean | undefined;
  /** Whether messages are binary, with Connect; false. gRPC-Web always is. */
  readonly useBinaryFormat?: boolean | undefined;
  /** Around each call, the first outermost; the credential is added inside of them. */
  readonly interceptors?: readonly Interceptor[] | undefined;
  /** How long a call may take that does not say so itself; no bound. */
  readonly defaultTimeoutMs?: number | undefined;
  readonly fetch?: typeof globalThis.fetch | undefined;
}

/** Returns a transport to a gateway, for Connect's createClient. */
export function createTransport(options: TransportOptions): Transport {
  checkUrl(options.baseUrl);
  const common = {
    baseUrl: options.baseUrl,
    interceptors: [...(options.interceptors ?? []), authenticate(options)],
    ...(options.defaultTimeoutMs !== undefined && { defaultTimeoutMs: options.defaultTimeoutMs }),
  };
  if (options.protocol === "grpc-web") {
    return createGrpcWebTransport({ ...common, ...(options.fetch && { fetch: options.fetch }) });
  }
  const connect: ConnectTransportOptions = {
    ...common,
    useHttpGet: options.useHttpGet ?? true,
    useBinaryFormat: options.useBinaryFormat ?? false,
    fetch: postLongReads(options.fetch),
  };
  return createConnectTransport(connect);
}

/**
 * Returns an interceptor that shows the credential with each call, for transports
 * that are made without createTransport. Let it be the last one, so that what repeats
 * a call asks for the credential anew.
 */
export function authenticate({ credential, team, reason }: Identity): Interceptor {
  const why = reason === undefined ? undefined : because(reason)[reasonHeader];
  return (next) => async (request) => {
    request.header.set("Authorization", `Bearer ${await tokenOf(credential, request.signal)}`);
    if (team) request.header.set("C1proxy-Team", team);
    if (why !== undefined && !request.header.has(reasonHeader)) request.header.set(reasonHeader, why);
    return next(request);
  };
}

/** The header that says why a call is made. */
export const reasonHeader = "C1proxy-Reason";

/** The most bytes of a reason, in UTF-8. */
export const maxReasonBytes = 512;

/**
 * Returns the headers that say why a call is made, which stands in its audit record:
 *
 *     client.confirmSyncValid(request, { headers: because("HR confirmed it") })
 *
 * It throws a RangeError if there is no text, or more than c1proxy keeps.
 */
export function because(reason: string): Record<typeof reasonHeader, string> {
  const text = reason.trim();
  const bytes = new TextEncoder().encode(text);
  if (bytes.length === 0) throw new RangeError("state reason: it is empty");
  if (bytes.length > maxReasonBytes) {
    throw new RangeError(`state reason: it has ${bytes.length} bytes in UTF-8, and c1proxy keeps ${maxReasonBytes}: shorten it`);
  }
  // Decoded again, halves of characters are gone, which encodeURIComponent refuses.
  return { [reasonHeader]: encodeURIComponent(new TextDecoder().decode(bytes)) };
}

async function tokenOf(credential: Credential, signal: AbortSignal): Promise<string> {
  let token: unknown;
  try {
    token = typeof credential === "string" ? credential : await credential(signal);
  } catch (cause) {
    signal.throwIfAborted();
    throw notSent("the credential cannot be had, so nothing was sent", cause);
  }
  // What is no token is not quoted: it may hold one.
  if (typeof token !== "string" || token === "") throw notSent("there is no credential, so nothing was sent");
  if (!/^[\x21-\x7e]+$/.test(token)) throw notSent("the credential holds a space, or what is no ASCII, so nothing was sent");
  return token;
}

function notSent(message: string, cause?: unknown): ConnectError {
  const info = { desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { domain: clientDomain, reason: "NO_CREDENTIAL" }) };
  return new ConnectError(message, Code.Unauthenticated, undefined, [info], cause);
}

function checkUrl(baseUrl: string): void {
  let url: URL;
  try {
    url = new URL(baseUrl, globalThis.location?.href);
  } catch {
    throw new TypeError("create transport: baseUrl is no URL: write https:// and the gateway's host");
  }
  if (!/^https?:$/.test(url.protocol)) throw new TypeError(`create transport: baseUrl is ${url.protocol}, not https:`);
  if (url.username || url.password) throw new TypeError("create transport: baseUrl holds a user or a password: give the credential as such");
  if (url.search || url.hash) throw new TypeError("create transport: baseUrl has a query or a fragment: remove it");
}

// The longest URL that is sent: servers and proxies take 8 KB of a request's line.
const longestUrl = 4096;

/**
 * Sends by POST what Connect would send by GET with a URL that is too long: a search
 * for thousands of ids is still a read.
 */
function postLongReads(inner: typeof globalThis.fetch | undefined): typeof globalThis.fetch {
  return (input, init) => {
    const fetch = inner ?? globalThis.fetch;
    if (init?.method !== "GET" || typeof input !== "string" || input.length <= longestUrl) return fetch(input, init);
    const [path, query] = input.split("?", 2) as [string, string?];
    const parameters = new URLSearchParams(query);
    const message = parameters.get("message") ?? "";
    const headers = new Headers(init.headers);
    headers.set("Content-Type", `application/${parameters.get("encoding")}`);
    headers.set("Connect-Protocol-Version", "1");
    return fetch(path, { ...init, method: "POST", headers, body: parameters.get("base64") === "1" ? bytesOf(message) : message });
  };
}

function bytesOf(base64url: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64url.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
}
