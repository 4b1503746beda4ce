import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { create, type DescField, type DescMessage, fromJson, type JsonObject, type JsonValue, type Message, ScalarType, toJson } from "@bufbuild/protobuf";
import { reflect, type ReflectMessage } from "@bufbuild/protobuf/reflect";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { Transport } from "@connectrpc/connect";
import { readCatalog, searchMethods } from "./catalog";
import { fromText, getField, inputOf, isObject, parseRequest, problemsOf, setField, toText } from "./form";
import { plain } from "../ui/text";
import { invoke } from "./invoke";
import { curlSnippet, grpcurlSnippet, shellQuote, typescriptSnippet } from "./snippets";

const set = join(mkdtempSync(join(tmpdir(), "explorer-")), "set.binpb");
execFileSync("go", ["tool", "-modfile=internal/dev/tools.mod", "buf", "build", "proto", "-o", set], { cwd: "../.." });
const catalog = readCatalog(readFileSync(set));
const { registry } = catalog;
const seed = Number(process.env["SEED"] ?? 20);

let state = seed || 1;
/** A number from 0 to n - 1. */
function next(n: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % n;
}
const pick = <T>(list: readonly T[]): T => list[next(list.length)]!;

const texts = ["", "a", "it's \"quoted\" \\ $HOME `id`\n", "é😀\u2028", "0", "null", "true", "__proto__", "  spaced  ", "\u202egpj.\u200b\\\ufeff\u{e0041}"];
function randomScalar(type: ScalarType): unknown {
  switch (type) {
    case ScalarType.STRING:
      return pick(texts);
    case ScalarType.BOOL:
      return next(2) === 1;
    case ScalarType.BYTES:
      return Uint8Array.from({ length: next(5) }, () => next(256));
    case ScalarType.DOUBLE:
      return pick([0, 1.5, -2.25e-10, 1e300, NaN, Infinity, -Infinity]);
    case ScalarType.FLOAT:
      return pick([0, 1.5, -2.25, Infinity]);
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return pick([0n, 1n, -1n, 9007199254740993n, -(2n ** 63n), 2n ** 63n - 1n]);
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return pick([0n, 1n, 9007199254740993n, 2n ** 64n - 1n]);
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return pick([0, 1, 2 ** 32 - 1]);
    default:
      return pick([0, 1, -1, -(2 ** 31), 2 ** 31 - 1]);
  }
}

const json: JsonValue[] = [null, true, 1.5, "x", [], [null, { a: "b" }], {}, { a: { b: [1] }, "": null }];
function randomMessage(desc: DescMessage, depth: number): Message {
  switch (desc.typeName) {
    case "google.protobuf.Timestamp":
      return fromJson(desc, pick(["2026-01-31T09:30:00Z", "1970-01-01T00:00:00.000000001Z", "0001-01-01T00:00:00Z"]));
    case "google.protobuf.Duration":
      return fromJson(desc, pick(["0s", "1.500s", "-3s", "0.000000001s"]));
    case "google.protobuf.FieldMask":
      return fromJson(desc, pick(["", "a", "appId,app.displayName"]));
    case "google.protobuf.Value":
      return fromJson(desc, pick(json));
    case "google.protobuf.ListValue":
      return fromJson(desc, pick(json.filter(Array.isArray)));
    case "google.protobuf.Struct":
      return fromJson(desc, pick(json.filter(isObject)));
    case "google.protobuf.Any":
      return create(desc);
  }
  const message = reflect(desc);
  for (const field of desc.fields) if (next(depth > 3 ? 8 : 2) === 0) fill(message, field, depth);
  return message.message;
}

function fill(message: ReflectMessage, field: DescField, depth: number): void {
  const one = () => field.message ? reflect(field.message, randomMessage(field.message, depth + 1))
    : field.enum ? pick([...field.enum.values.map((v) => v.number), 4711]) : randomScalar(field.scalar as ScalarType);
  if (depth > 6 && field.message) return;
  if (field.fieldKind === "list") for (let i = next(3); i > 0; i--) message.get(field).add(one() as never);
  else if (field.fieldKind === "map") for (let i = next(3); i > 0; i--) message.get(field).set(randomKey(field.mapKey), one() as never);
  else message.set(field, one());
}

function randomKey(type: ScalarType): never {
  return (type === ScalarType.STRING ? pick(["a", "b c", "2", "", "\u202ek"]) : randomScalar(type)) as never;
}

/** Fills a form in from an empty one, as a user does who types what a request shows. */
function retype(desc: DescMessage, object: JsonObject): JsonObject {
  let form: JsonObject = {};
  for (const field of desc.fields) {
    const value = getField(object, field);
    if (value === undefined) continue;
    const one = (v: JsonValue): JsonValue => {
      const input = inputOf(field);
      return input.kind === "message" ? retype(input.desc, v as JsonObject) : fromText(input, toText(input, v));
    };
    if (field.fieldKind === "list") form = setField(form, field, (value as JsonValue[]).map(one));
    else if (field.fieldKind === "map") form = setField(form, field, Object.fromEntries(Object.entries(value as JsonObject).map(([k, v]) => [k, one(v)])));
    else form = setField(form, field, one(value));
  }
  return form;
}

test("the set has C1's 638 methods and the gateway's own", () => {
  assert.equal(catalog.methods.filter((m) => m.service.startsWith("c1.")).length, 638);
  assert.ok(catalog.find("c1proxy.v1.AuditService/Tail")?.streams);
  assert.ok(catalog.methods.filter((m) => m.service.startsWith("c1.")).every((m) => /^(GET|POST|PUT|PATCH|DELETE) \//.test(m.rest)));
});

test("reads run at once; what confirms or deletes is dangerous", () => {
  const at = (id: string) => catalog.find(id)!;
  assert.ok(at("c1.api.app.v1.Apps/List").reads);
  assert.ok(!at("c1.api.app.v1.Apps/Create").reads && !at("c1.api.app.v1.Apps/Create").dangerous);
  assert.ok(at("c1.api.app.v1.ConnectorService/ConfirmSyncValid").dangerous);
  assert.ok(at("c1.api.app.v1.Apps/Delete").dangerous);
  assert.ok(catalog.methods.every((m) => !(m.reads && m.dangerous)));
});

test("search takes words in any order, of the service, the method and C1's path", () => {
  const first = (query: string) => searchMethods(catalog.methods, query)[0]?.id;
  for (const query of ["confirm sync valid", "valid connector confirm", "ConfirmSyncValid", "c1.api.app.v1.ConnectorService/ConfirmSyncValid", "CONFIRMSYNC connectorservice"]) {
    assert.equal(first(query), "c1.api.app.v1.ConnectorService/ConfirmSyncValid", query);
  }
  assert.ok(searchMethods(catalog.methods, "/api/v1/apps").length > 10);
  assert.equal(first("who am i"), "c1proxy.v1.GatewayService/WhoAmI");
  assert.equal(searchMethods(catalog.methods, "nosuchword").length, 0);
  assert.equal(searchMethods(catalog.methods, " ").length, catalog.methods.length);
});

test("every request of every method goes from form to JSON and back", () => {
  let filled = 0;
  for (const method of catalog.methods) {
    const desc = method.desc.input;
    for (let round = 0; round < 6; round++) {
      const message = randomMessage(desc, 0);
      const whole = toJson(desc, message, { registry }) as JsonObject;
      const text = JSON.stringify(whole, null, 2);
      const where = `SEED=${seed} ${method.id}\n${text}`;
      assert.deepEqual(problemsOf(desc, whole, registry), [], where);
      const parsed = parseRequest(desc, text, registry);
      assert.ok("json" in parsed, where);
      assert.deepEqual(parsed.json, whole, where);
      const typed = retype(desc, whole);
      assert.deepEqual(typed, whole, where);
      assert.deepEqual(toJson(desc, fromJson(desc, typed, { registry }), { registry }), whole, where);
      filled += Object.keys(whole).length;
    }
  }
  assert.ok(filled > 3000, `${filled} fields`);
});

test("the names of the descriptor are taken too", () => {
  const desc = catalog.find("c1.api.app.v1.ConnectorService/ConfirmSyncValid")!.desc.input;
  const parsed = parseRequest(desc, `{"app_id":"a","connector_id":"b"}`, registry);
  assert.deepEqual(parsed, { json: { appId: "a", connectorId: "b" }, problems: [] });
});

test("a problem is found where protobuf finds one, and nowhere else", () => {
  const junk: JsonValue[] = ["x", "", "1", "-1", "1.5", 1.5, -1, 4294967296, 1e20, null, true, [], {}, [null], [{}], { x: 1 }, "2026-02-30T00:00:00Z", "2026-01-01T25:00:00Z",
    "1s", "1.0000000001s", "a_b", "A", "a,b", "AA", "AAA=", "A", "AA==", "-_", "NaN", "\ud800", 0, false, "NULL_VALUE", "1e3"];
  const disagreed = new Map<string, string>();
  let bad = 0;
  for (const method of catalog.methods) {
    const desc = method.desc.input;
    for (let round = 0; round < 12; round++) {
      const whole = toJson(desc, randomMessage(desc, 0), { registry }) as JsonObject;
      const changed = spoil(whole, pick(junk));
      let fails = "";
      try {
        fromJson(desc, changed, { registry });
      } catch (error) {
        fails = (error as Error).message;
      }
      const problems = problemsOf(desc, changed, registry);
      if (fails) bad++;
      // Of masks protobuf-es takes what names no field.
      if (fails === "" && problems.some((p) => !p.message.startsWith("must be paths"))) disagreed.set(problems[0]!.message, `${method.id} ${JSON.stringify(changed)}`);
      // What protobuf alone finds has no path: there should be little of it.
      if (problems.some((p) => p.path === "" && !p.message.startsWith("must be an object"))) disagreed.set(fails, `${method.id} ${JSON.stringify(changed)}`);
      assert.equal(problems.length > 0 || fails === "", true);
    }
  }
  assert.ok(bad > 1000, `${bad} bad ones`);
  assert.deepEqual(Object.fromEntries(disagreed), {}, `SEED=${seed}`);
});

test("what protobuf-es takes, and the gateway would not, is refused here", () => {
  const desc = catalog.find("c1proxy.v1.AuditService/Query")!.desc.input;
  for (const pageSize of ["0x1", "+1", "01", " 1"]) assert.deepEqual(problemsOf(desc, { pageSize }, registry).map((p) => p.path), ["pageSize"], pageSize);
});

/** Puts junk in the place of one value, or beside the others. */
function spoil(object: JsonObject, junk: JsonValue): JsonObject {
  const places: [JsonObject | JsonValue[], string | number][] = [];
  const walk = (value: JsonValue) => {
    if (Array.isArray(value)) value.forEach((one, i) => (places.push([value, i]), walk(one)));
    else if (isObject(value)) for (const name of Object.keys(value)) (places.push([value, name]), walk(value[name]!));
  };
  const copy = JSON.parse(JSON.stringify(object)) as JsonObject;
  walk(copy);
  if (places.length === 0 || next(20) === 0) copy["nosuchField"] = junk;
  else {
    const [container, name] = pick(places);
    (container as JsonObject)[name as string] = junk;
  }
  return copy;
}

test("problems name the path", () => {
  const desc = catalog.find("c1.api.app.v1.Apps/Update")!.desc.input;
  const paths = (text: string) => {
    const parsed = parseRequest(desc, text, registry);
    return "syntax" in parsed ? parsed.syntax : parsed.problems.map((p) => `${p.path}: ${p.message}`).join("; ");
  };
  assert.match(paths(`{"app":{"displayName":1}}`), /^app\.displayName: must be a text, not a number$/);
  assert.match(paths(`{"app":{"display_nam":""}}`), /^app\.display_nam: is not a field of c1\.api\.app\.v1\.App; did you mean displayName\?$/);
  assert.match(paths(`{"app":[]}`), /^app: must be an object, not a list$/);
  assert.match(paths(`{\n  "app": {,}\n}`), /line 2, column 11/);
  assert.match(paths(`[]`), /must be an object/);
});

test("snippets come through a shell as they are", () => {
  const method = catalog.find("c1.api.app.v1.Apps/Create")!;
  const words = (snippet: string) =>
    execFileSync("sh", ["-c", `curl() { printf '%s\\0' "$@"; }; grpcurl() { printf '%s\\0' "$@"; }; ${snippet}`], { env: { KEY: "sec ret", PATH: process.env["PATH"] } })
      .toString().split("\0").slice(0, -1);
  const nasty = [...texts, "'", "''", "'; rm -rf / #", "$KEY", "\\'", "a\\\nb", "!!", "*", "~", "-H"];
  for (const text of nasty) {
    const request = { displayName: text };
    const call = { method, request, origin: "https://c1proxy.example.com", team: "hr", reason: text };
    const data = (all: string[]) => all.map((word, i) => (all[i - 1] === "--data-binary" || all[i - 1] === "-d" ? JSON.parse(word) as unknown : word));
    for (const snippet of [curlSnippet(call), grpcurlSnippet(call)]) assert.equal(plain(snippet), snippet, "nothing is hidden in it");
    const reason = text ? ["-H", `C1proxy-Reason: ${encodeURIComponent(text)}`] : [];
    assert.deepEqual(data(words(curlSnippet(call))), ["-sS", `https://c1proxy.example.com/${method.id}`, "-H", "Authorization: Bearer sec ret", "-H", "Content-Type: application/json",
      "-H", "C1proxy-Team: hr", ...reason, "--data-binary", request]);
    assert.deepEqual(data(words(grpcurlSnippet(call))), ["-H", "Authorization: Bearer sec ret", "-H", "C1proxy-Team: hr", ...reason, "-d", request,
      "c1proxy.example.com:443", method.id]);
    assert.equal(execFileSync("sh", ["-c", `printf %s ${shellQuote(text)}`]).toString(), text);
  }
  assert.ok(grpcurlSnippet({ method, request: {}, origin: "http://127.0.0.1:8080" }).includes("-plaintext"));
  assert.deepEqual(words(grpcurlSnippet({ method, request: {}, origin: "http://127.0.0.1:8080" })).slice(-2), ["127.0.0.1:8080", method.id]);
});

test("the TypeScript of every method makes the same request", async () => {
  let created = 0;
  const reason = "it's \"so\"\n\u202e";
  for (const method of catalog.methods) {
    for (let round = 0; round < 3; round++) {
      const request = toJson(method.desc.input, randomMessage(method.desc.input, 0), { registry }) as JsonObject;
      const snippet = typescriptSnippet({ method, request, origin: "https://c1proxy.example.com", team: "hr", reason });
      const where = `SEED=${seed}\n${snippet}`;
      assert.equal(plain(snippet), snippet, `nothing is hidden in it: ${where}`);
      const [imports, code] = snippet.split("\n\n", 2) as [string, string];
      assert.ok(imports.includes(`from "@c1proxy/client/${method.desc.parent.file.proto.package}/${method.desc.parent.name}"`), where);
      const schema = /(\w+Schema) \}/.exec(imports)?.[1];
      if (!schema) created++;
      else assert.equal(schema, `${method.desc.input.typeName.slice(method.desc.input.file.proto.package.length + 1).replaceAll(".", "_")}Schema`, where);
      const sent: unknown[] = [];
      const run = new Function("createClient", "createTransport", "because", "fromJson", schema ?? "_", method.desc.parent.name, "process", "console",
        `return (async () => {${code}})()`) as (...args: unknown[]) => Promise<void>;
      const client = new Proxy({}, { get: (_, name) => (name === "then" ? undefined : (init: unknown, options: unknown) => (sent.push(name, init, options), [])) });
      await run(() => client, () => ({}), (text: string) => ({ text }), (desc: DescMessage, value: JsonValue) => fromJson(desc, value, { registry }),
        method.desc.input, {}, { env: {} }, { log: () => {} });
      assert.equal(sent[0], method.desc.localName, where);
      assert.deepEqual(sent[2], { headers: { text: reason } }, where);
      assert.deepEqual(toJson(method.desc.input, create(method.desc.input, sent[1] as never), { registry }), request, where);
    }
  }
  assert.ok(created > 100, `${created} without fromJson`);
});

test("a read goes in the URL while that is short, as it is encoded there", async () => {
  const method = catalog.find("c1.api.user.v1.UserSearch/Search")!;
  const goesInUrl = async (query: string) => {
    let found: MethodOptions_IdempotencyLevel | undefined;
    const transport = { unary: (desc: { idempotency: MethodOptions_IdempotencyLevel }) => Promise.reject((found = desc.idempotency, new Error("not sent"))) } as unknown as Transport;
    await invoke(transport, method, { query }, registry, {}, new AbortController().signal);
    return found === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
  };
  assert.ok(await goesInUrl("é".repeat(600)));
  assert.ok(!(await goesInUrl("é".repeat(700))), "700 letters are 1400 bytes, and 4200 in a URL");
  assert.ok(await goesInUrl("a".repeat(3900)));
});
