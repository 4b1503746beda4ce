import { type DescMessage, type JsonObject, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import { isWrapperDesc } from "@bufbuild/protobuf/wkt";
import { plainJson } from "../ui/text";
import type { Method } from "./catalog";
import { getField, inputOf, isObject } from "./form";

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

/** A value in JSON, in which nothing is hidden from who copies it. It is a literal of TypeScript too. */
function jsonOf(value: JsonValue): string {
  return plainJson(JSON.stringify(value));
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
    `--data-binary ${shellQuote(jsonOf(call.request))}`,
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
    `-d ${shellQuote(jsonOf(call.request))}`,
    address,
    call.method.id,
  ].join(" \\\n  ");
}

/** The call in TypeScript with @c1proxy/client. */
export function typescriptSnippet(call: Call): string {
  const { method: { desc, service: typeName, streams }, request, origin, team, reason } = call;
  const service = desc.parent.name;
  const plain = isPlain(desc.input, request);
  const schema = `${desc.input.typeName.slice(desc.input.file.proto.package.length + 1).replaceAll(".", "_")}Schema`;
  const literal = Object.keys(request).length === 0 ? "{}" : literalOf(request, "");
  const argument = plain ? literal : `fromJson(${schema}, ${literal})`;
  const args = reason ? `${argument}, { headers: because(${jsonOf(reason)}) }` : argument;
  return [
    ...(plain ? [] : [`import { fromJson } from "@bufbuild/protobuf";`]),
    `import { createClient } from "@connectrpc/connect";`,
    `import { ${reason ? "because, " : ""}createTransport } from "@c1proxy/client";`,
    `import { ${service}${plain ? "" : `, ${schema}`} } from "@c1proxy/client/${typeName.slice(0, -service.length - 1)}/${service}";`,
    ``,
    `const transport = createTransport({ baseUrl: ${jsonOf(origin)}, credential: process.env.KEY ?? ""${team ? `, team: ${jsonOf(team)}` : ""} });`,
    `const client = createClient(${service}, transport);`,
    streams
      ? `for await (const answer of client.${desc.localName}(${args})) {\n  console.log(answer);\n}`
      : `const answer = await client.${desc.localName}(${args});\nconsole.log(answer);`,
  ].join("\n");
}

/** Whether a request's JSON is also what create takes: no enums, large numbers, times, bytes or choices in it. */
function isPlain(desc: DescMessage, json: JsonObject): boolean {
  return desc.fields.every((field) => {
    const value = getField(json, field);
    if (value === undefined) return true;
    const input = inputOf(field);
    if (field.oneof || field.localName !== field.jsonName || (field.message && isWrapperDesc(field.message))) return false;
    if (field.fieldKind === "map" && field.mapKey !== ScalarType.STRING) return false;
    const values = field.fieldKind === "list" ? (value as JsonValue[]) : field.fieldKind === "map" ? Object.values(value as JsonObject) : [value];
    switch (input.kind) {
      case "text":
      case "bool":
        return true;
      case "int":
        return !input.long;
      case "float":
      case "double":
        return values.every((one) => typeof one === "number");
      case "message":
        return values.every((one) => isObject(one) && isPlain(input.desc, one));
      default:
        return false;
    }
  });
}

/** A JSON value as a literal of TypeScript. */
function literalOf(value: JsonValue, indent: string): string {
  const deeper = `${indent}  `;
  if (Array.isArray(value)) return value.length === 0 ? "[]" : `[\n${value.map((one) => `${deeper}${literalOf(one, deeper)},\n`).join("")}${indent}]`;
  if (!isObject(value)) return jsonOf(value);
  const members = Object.entries(value).map(([name, one]) => {
    const key = name === "__proto__" ? `["__proto__"]` : /^[A-Za-z_$][\w$]*$/.test(name) ? name : jsonOf(name);
    return `${deeper}${key}: ${literalOf(one, deeper)},\n`;
  });
  return members.length === 0 ? "{}" : `{\n${members.join("")}${indent}}`;
}
