import type { DescService } from "@bufbuild/protobuf";
import { type CallOptions, type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { wellFormed } from "./ui/text";

/** What says who the caller is: an API key or an access token, and the team to call for. */
export interface Credential {
  /** The key or token to show with the next call. */
  token(): Promise<string>;
  /** The team to call for; undefined lets c1proxy say. */
  readonly team?: string | undefined;
}

/**
 * How long a call may take in all: the gateway itself gives up before, so that by then
 * nobody answers any more. Calls that may take longer say timeoutMs: 0.
 */
const patience = 90_000;

/**
 * A transport to the gateway that served the page. Reads go by GET; every call
 * carries the credential in its header, never in its URL.
 */
export function transportFor(credential: Credential, ...more: Interceptor[]): Transport {
  const authenticate: Interceptor = (next) => async (request) => {
    request.header.set("Authorization", `Bearer ${await credential.token()}`);
    if (credential.team) request.header.set("C1proxy-Team", credential.team);
    return next(request);
  };
  return createConnectTransport({
    baseUrl: location.origin,
    interceptors: [...more, authenticate],
    useHttpGet: true,
    defaultTimeoutMs: patience,
  });
}

/** A client of one service for a transport. */
export function clientOf<S extends DescService>(service: S, transport: Transport): Client<S> {
  return createClient(service, transport);
}

/** The most bytes of a reason that c1proxy takes. */
export const reasonLimit = 512;

/** How many bytes a reason has, as c1proxy counts them. */
export function reasonBytes(reason: string): number {
  return new TextEncoder().encode(reason).length;
}

/** The options of a call with a stated reason. */
export function withReason(options: CallOptions, reason: string): CallOptions {
  if (reason === "") return options;
  return { ...options, headers: { "C1proxy-Reason": encodeURIComponent(wellFormed(reason)) } };
}
