import type { JsonObject } from "@bufbuild/protobuf";
import type { Method } from "./catalog";

/** What a snippet is made of. */
export interface Call {
  readonly method: Method;
  readonly request: JsonObject;
  /** Where the gateway listens, such as https://c1proxy.example.com. */
  readonly origin: string;
  /** The team to call for, if the caller is in several. */
  readonly team?: string | undefined;
  readonly reason?: string | undefined;
}

/** Quotes a text as one word of a POSIX shell, whatever it holds. */
export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Headers beside the key, which stands in the environment as KEY and never in a snippet. */
function headers({ team, reason }: Call): [string, string][] {
  const list: [string, string][] = [];
  if (team) list.push(["C1proxy-Team", team]);
  if (reason) list.push(["C1proxy-Reason", encodeURIComponent(reason)]);
  return list;
}

/** The call with curl, by Connect's protocol. */
export function curlSnippet(call: Call): string {
  return [
    `curl -sS ${shellQuote(`${call.origin}/${call.method.id}`)}`,
    `-H "Authorization: Bearer $KEY"`,
    `-H 'Content-Type: application/json'`,
    ...headers(call).map(([name, value]) => `-H ${shellQuote(`${name}: ${value}`)}`),
    `--data-binary ${shellQuote(JSON.stringify(call.request))}`,
  ].join(" \\\n  ");
}

/** The call with grpcurl, which asks the gateway for the types by reflection. */
export function grpcurlSnippet(call: Call): string {
  const url = new URL(call.origin);
  const plain = url.protocol === "http:";
  const address = url.port ? url.host : `${url.hostname}:${plain ? 80 : 443}`;
  return [
    `grpcurl${plain ? " -plaintext" : ""}`,
    `-H "Authorization: Bearer $KEY"`,
    ...headers(call).map(([name, value]) => `-H ${shellQuote(`${name}: ${value}`)}`),
    `-d ${shellQuote(JSON.stringify(call.request))}`,
    address,
    call.method.id,
  ].join(" \\\n  ");
}
