import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";

/** What says who the caller is: an API key or an access token, and the team to call for. */
export interface Credential {
  readonly token: string;
  readonly team?: string;
}

/**
 * A transport to the gateway that served the page. Reads go by GET; every call
 * carries the credential in its header, never in its URL.
 */
export function transportFor(credential: Credential): Transport {
  const authenticate: Interceptor = (next) => (request) => {
    request.header.set("Authorization", `Bearer ${credential.token}`);
    if (credential.team) request.header.set("C1proxy-Team", credential.team);
    return next(request);
  };
  return createConnectTransport({ baseUrl: location.origin, interceptors: [authenticate], useHttpGet: true });
}

/** A client of one service for a transport. */
export function clientOf<S extends DescService>(service: S, transport: Transport): Client<S> {
  return createClient(service, transport);
}
