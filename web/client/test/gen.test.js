import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { create, createFileRegistry, fromBinary, fromJson, toBinary, toJson } from "@bufbuild/protobuf";
import * as wkt from "@bufbuild/protobuf/wkt";
import { StatusSchema } from "@c1proxy/client/gen/google/rpc/status_pb";

const gen = new URL("../gen/", import.meta.url);
const files = readdirSync(gen, { recursive: true }).map(String);
const modules = files.filter((f) => f.endsWith(".js"));

test("every module has what its types declare, and nothing less", async () => {
  let names = 0;
  for (const module of modules) {
    const has = await import(new URL(module, gen));
    const types = readFileSync(new URL(module.replace(/\.js$/, ".d.ts"), gen), "utf8");
    const declared = [...types.matchAll(/^export (?:declare const|enum) ([\w$]+)/gm)].map((m) => m[1]);
    const exported = [...types.matchAll(/^export \{ (.+) \} from/gm)].flatMap((m) => m[1].split(", ").filter((n) => !n.startsWith("type ")));
    for (const name of [...declared, ...exported]) {
      assert.ok(has[name] !== undefined, `${module} has no ${name}`);
      names++;
    }
  }
  assert.ok(names > 5000, String(names));
});

// The descriptors that the gateway itself is made of.
const mirror = fromBinary(wkt.FileDescriptorSetSchema, readFileSync(new URL("../../../internal/catalog/c1.binpb", import.meta.url)));

// bare leaves out what bundles have no use for: options that only servers read.
function bare(value) {
  if (Array.isArray(value)) return value.map(bare);
  if (!value?.$typeName) return value;
  const out = {};
  for (const [key, v] of Object.entries(value)) if (key !== "$unknown" && key !== "options" && key !== "jsonName") out[key] = bare(v);
  return out;
}

test("each descriptor says what the proto says", async () => {
  let types = 0;
  let services = 0;
  for (const file of mirror.file) {
    const has = await import(new URL(file.name.replace(/\.proto$/, "_pb.js"), gen));
    const descs = new Map(Object.values(has).filter((d) => ["message", "enum", "service"].includes(d?.kind)).map((d) => [d.typeName, d]));
    for (const [kind, protos] of [["message", file.messageType], ["enum", file.enumType], ["service", file.service]]) {
      for (const proto of protos) {
        const desc = descs.get(`${file.package}.${proto.name}`);
        assert.equal(desc?.kind, kind, proto.name);
        assert.deepEqual(bare(desc.proto), bare(proto), proto.name);
        for (const [i, method] of proto.method?.entries() ?? []) {
          assert.equal(desc.methods[i].idempotency, method.options?.idempotencyLevel ?? 0, method.name);
          services++;
        }
        types++;
      }
    }
    for (const [name, desc] of descs) assert.ok(name.startsWith(`${file.package}.`) && desc.file.proto.package === file.package);
  }
  assert.ok(types > 2000 && services === 638, `${types} types, ${services} methods`);
});

test("each service has a module to import it from", async () => {
  const listed = files.filter((f) => /^services\/.*\.js$/.test(f)).map((f) => f.slice("services/".length, -3).replace(/\/(?=[^/]*$)/, "."));
  const want = mirror.file.flatMap((f) => f.service.map((s) => `${f.package}.${s.name}`));
  assert.deepEqual(listed.filter((n) => n.startsWith("c1.")).sort(), want.sort());
  assert.ok(listed.includes("c1proxy.v1.GatewayService") && listed.includes("c1proxy.v1.AuditService"));
  for (const name of listed) {
    const dot = name.lastIndexOf(".");
    const module = await import(`@c1proxy/client/${name.slice(0, dot)}/${name.slice(dot + 1)}`);
    const service = Object.values(module).find((d) => d.kind === "service");
    assert.equal(service.typeName, name);
    for (const { input, output } of service.methods) {
      for (const message of [input, output]) if (!message.typeName.startsWith("google.")) assert.ok(Object.values(module).includes(message), `${name} without ${message.typeName}`);
    }
  }
});

test("messages that hold each other, and other files' messages, go to bytes and JSON and back", async () => {
  const whole = createFileRegistry(create(wkt.FileDescriptorSetSchema, { file: [...wellKnown(), ...mirror.file.map(withoutOptions)] }));
  let n = 0;
  for (const file of mirror.file) {
    const has = await import(new URL(file.name.replace(/\.proto$/, "_pb.js"), gen));
    for (const desc of Object.values(has)) {
      if (desc?.kind !== "message") continue;
      const bytes = toBinary(whole.getMessage(desc.typeName), filled(whole.getMessage(desc.typeName), 3));
      const message = fromBinary(desc, bytes);
      assert.equal(message.$typeName, desc.typeName);
      assert.deepEqual(toBinary(desc, fromJson(desc, toJson(desc, message))), bytes, desc.typeName);
      n++;
    }
  }
  assert.ok(n > 2000, String(n));
});

// filled is a message with a value in each field, to a depth.
function filled(desc, depth) {
  if (desc.typeName === "google.protobuf.Any" || desc.typeName === "google.protobuf.Value") return create(desc, desc.typeName.endsWith("Value") ? { kind: { case: "boolValue", value: true } } : {});
  const message = create(desc);
  for (const field of desc.fields) {
    if (field.oneof && field.oneof.fields[0] !== field) continue;
    const one = (kind, type) => (kind === "message" ? (depth > 0 ? filled(type, depth - 1) : undefined) : kind === "enum" ? type.values.at(-1).number : scalar(type));
    let value;
    if (field.fieldKind === "message") value = one("message", field.message);
    else if (field.fieldKind === "enum") value = one("enum", field.enum);
    else if (field.fieldKind === "scalar") value = scalar(field.scalar);
    else if (field.fieldKind === "list") value = [one(field.listKind, field.message ?? field.enum ?? field.scalar)].filter((v) => v !== undefined);
    else {
      const inner = one(field.mapKind, field.message ?? field.enum ?? field.scalar);
      value = inner === undefined ? {} : { [field.mapKey === 9 ? "k" : "1"]: inner };
    }
    if (value === undefined) continue;
    if (field.oneof) message[field.oneof.localName] = { case: field.localName, value };
    else message[field.localName] = value;
  }
  return message;
}

function scalar(type) {
  if (type === 9) return "t";
  if (type === 8) return true;
  if (type === 12) return new Uint8Array([1, 2]);
  if ([3, 4, 6, 16, 18].includes(type)) return 5n;
  return 5;
}

function wellKnown() {
  return [wkt.file_google_protobuf_any, wkt.file_google_protobuf_duration, wkt.file_google_protobuf_empty, wkt.file_google_protobuf_field_mask,
    wkt.file_google_protobuf_struct, wkt.file_google_protobuf_timestamp, wkt.file_google_protobuf_wrappers, wkt.file_google_protobuf_descriptor].map((f) => f.proto).concat({ ...StatusSchema.file.proto, name: "google/rpc/status.proto" });
}

function withoutOptions(file) {
  return { ...file, dependency: file.dependency.filter((d) => !d.startsWith("google/api/") && !d.startsWith("buf/")) };
}
