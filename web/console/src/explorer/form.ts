import { type DescEnum, type DescField, type DescMessage, fromJson, type JsonObject, type JsonValue, type Registry, ScalarType, toJson } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence, isWrapperDesc } from "@bufbuild/protobuf/wkt";

// What a form edits is the request in protobuf's JSON. What does not fit its field
// stays in it as it was typed, as a text, so that it can be pointed at.

/** How one value is edited. */
export type Input =
  | { readonly kind: "text" | "bool" | "bytes" | "float" | "double" | "time" | "duration" | "mask" }
  | { readonly kind: "int"; readonly min: bigint; readonly max: bigint; /** Whether JSON has it as a text. */ readonly long: boolean }
  | { readonly kind: "enum"; readonly desc: DescEnum }
  /** What has no fields of its own: Struct, Value, ListValue and Any are written as JSON. */
  | { readonly kind: "json"; readonly desc: DescMessage }
  | { readonly kind: "message"; readonly desc: DescMessage };

function int(bits: bigint, signed: boolean): Input {
  const top = 1n << (signed ? bits - 1n : bits);
  return { kind: "int", min: signed ? -top : 0n, max: top - 1n, long: bits === 64n };
}

const scalars: Readonly<Record<ScalarType, Input>> = {
  [ScalarType.STRING]: { kind: "text" },
  [ScalarType.BOOL]: { kind: "bool" },
  [ScalarType.BYTES]: { kind: "bytes" },
  [ScalarType.DOUBLE]: { kind: "double" },
  [ScalarType.FLOAT]: { kind: "float" },
  [ScalarType.INT32]: int(32n, true),
  [ScalarType.SINT32]: int(32n, true),
  [ScalarType.SFIXED32]: int(32n, true),
  [ScalarType.UINT32]: int(32n, false),
  [ScalarType.FIXED32]: int(32n, false),
  [ScalarType.INT64]: int(64n, true),
  [ScalarType.SINT64]: int(64n, true),
  [ScalarType.SFIXED64]: int(64n, true),
  [ScalarType.UINT64]: int(64n, false),
  [ScalarType.FIXED64]: int(64n, false),
};

/** How a field's value is edited; of a list or map, each of its values. */
export function inputOf(field: DescField): Input {
  if (field.enum) return { kind: "enum", desc: field.enum };
  if (field.message) return messageInput(field.message);
  return scalars[field.scalar as ScalarType];
}

function messageInput(desc: DescMessage): Input {
  switch (desc.typeName) {
    case "google.protobuf.Timestamp":
      return { kind: "time" };
    case "google.protobuf.Duration":
      return { kind: "duration" };
    case "google.protobuf.FieldMask":
      return { kind: "mask" };
    case "google.protobuf.Struct":
    case "google.protobuf.Value":
    case "google.protobuf.ListValue":
    case "google.protobuf.Any":
      return { kind: "json", desc };
  }
  if (isWrapperDesc(desc)) return scalars[desc.fields[0]!.scalar as ScalarType];
  return { kind: "message", desc };
}

/** Whether a field that is absent is another thing than one with its zero value. */
export function hasPresence(field: DescField): boolean {
  return (field.fieldKind === "scalar" || field.fieldKind === "enum" || field.fieldKind === "message")
    && (field.oneof !== undefined || field.presence !== FeatureSet_FieldPresence.IMPLICIT);
}

/** The value with which a field begins that is added to a form. */
export function zeroOf(input: Input): JsonValue {
  switch (input.kind) {
    case "bool":
      return false;
    case "int":
      return input.long ? "0" : 0;
    case "float":
    case "double":
      return 0;
    case "enum":
      return input.desc.typeName === "google.protobuf.NullValue" ? null : (input.desc.values[0]?.name ?? 0);
    case "json":
      return input.desc.typeName === "google.protobuf.ListValue" ? [] : input.desc.typeName === "google.protobuf.Value" ? null : {};
    case "message":
      return {};
    case "time":
      return "1970-01-01T00:00:00Z";
    case "duration":
      return "0s";
    default:
      return "";
  }
}

/** What stands in the input of a value. */
export function toText(input: Input, value: JsonValue | undefined): string {
  if (value === undefined) return "";
  if (input.kind === "json") return JSON.stringify(value, null, 2);
  if (typeof value === "number") return Object.is(value, -0) ? "-0" : String(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** The value of what stands in an input. What is none of its kind is kept as text. A json input throws on what is no JSON. */
export function fromText(input: Input, text: string): JsonValue {
  switch (input.kind) {
    case "json":
      return JSON.parse(text) as JsonValue;
    case "bool":
      return text === "true" ? true : text === "false" ? false : text;
    case "int":
      return !input.long && /^-?\d{1,10}$/.test(text.trim()) ? Number(text) : text.trim();
    case "float":
    case "double":
      return /^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text.trim()) ? Number(text) : text.trim();
    case "enum":
      return /^-?\d+$/.test(text) ? Number(text) : text === "null" ? null : text;
    default:
      return text;
  }
}

/** An object with a field set or, if value is undefined, without it. Other members of its oneof are left out. */
export function setField(object: JsonObject, field: DescField, value: JsonValue | undefined): JsonObject {
  const next = { ...object };
  for (const other of field.oneof && value !== undefined ? field.oneof.fields : [field]) {
    delete next[other.jsonName];
    delete next[other.name];
  }
  if (value !== undefined && !isOmitted(field, value)) next[field.jsonName] = value;
  return next;
}

/** Whether protobuf's JSON leaves a value out, because it is what an absent field is. */
function isOmitted(field: DescField, value: JsonValue): boolean {
  if (field.fieldKind === "list") return Array.isArray(value) && value.length === 0;
  if (field.fieldKind === "map") return isObject(value) && Object.keys(value).length === 0;
  if (hasPresence(field)) return false;
  const input = inputOf(field);
  return value === "" || (value === zeroOf(input) && !Object.is(value, -0));
}

/** The value of a field in an object, by either of its names. */
export function getField(object: JsonObject, field: DescField): JsonValue | undefined {
  const value = object[field.jsonName] ?? object[field.name];
  if (value !== undefined && value !== null) return value;
  const takesNull = field.message?.typeName === "google.protobuf.Value" || field.enum?.typeName === "google.protobuf.NullValue";
  return takesNull && field.fieldKind !== "list" && field.fieldKind !== "map" && (field.jsonName in object || field.name in object) ? null : undefined;
}

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What is wrong with a value of a request, and where: "mask.paths[0]". */
export interface Problem {
  readonly path: string;
  readonly message: string;
}

/** What keeps a JSON from being a message of a type. None means that it is one. */
export function problemsOf(desc: DescMessage, json: JsonValue, registry: Registry): readonly Problem[] {
  const problems: Problem[] = [];
  checkMessage(desc, json, "", problems);
  if (problems.length > 0) return problems;
  try {
    fromJson(desc, json, { registry });
  } catch (error) {
    problems.push({ path: "", message: error instanceof Error ? error.message : String(error) });
  }
  return problems;
}

/** The path of a field in an object at a path. */
export function join(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

function checkMessage(desc: DescMessage, json: JsonValue, path: string, problems: Problem[]): void {
  if (!isObject(json)) {
    problems.push({ path, message: `must be an object, not ${kindOf(json)}` });
    return;
  }
  const taken = new Map<string, string>();
  for (const [name, value] of Object.entries(json)) {
    const at = join(path, name);
    const field = desc.fields.find((one) => one.jsonName === name || one.name === name);
    if (!field) {
      problems.push({ path: at, message: `is not a field of ${desc.typeName}${suggest(desc, name)}` });
      continue;
    }
    const before = taken.get(field.name);
    if (before) problems.push({ path: at, message: `is the same field as ${before}: leave one out` });
    taken.set(field.name, name);
    if (value === null && getField(json, field) === undefined) continue;
    if (field.oneof) {
      const other = taken.get(`oneof ${field.oneof.name}`);
      if (other && !before) problems.push({ path: at, message: `cannot stand beside ${other}: they are one choice, ${field.oneof.name}` });
      taken.set(`oneof ${field.oneof.name}`, name);
    }
    checkField(field, value, at, problems);
  }
}

function checkField(field: DescField, value: JsonValue, path: string, problems: Problem[]): void {
  const input = inputOf(field);
  if (field.fieldKind === "list") {
    if (!Array.isArray(value)) problems.push({ path, message: `must be a list, not ${kindOf(value)}` });
    else value.forEach((one, i) => checkValue(input, one, `${path}[${i}]`, problems));
  } else if (field.fieldKind === "map") {
    if (!isObject(value)) {
      problems.push({ path, message: `must be an object, not ${kindOf(value)}` });
      return;
    }
    for (const [key, one] of Object.entries(value)) {
      const at = `${path}[${JSON.stringify(key)}]`;
      const bad = checkKey(field.mapKey, key);
      if (bad) problems.push({ path: at, message: `its name ${bad}` });
      checkValue(input, one, at, problems);
    }
  } else {
    checkValue(input, value, path, problems);
  }
}

/** What is wrong with the name of a map's value. */
export function checkKey(type: ScalarType, key: string): string | undefined {
  const input = scalars[type];
  if (input.kind === "bool") return key === "true" || key === "false" ? undefined : "must be true or false";
  return input.kind === "int" ? checkInt(input, key) : undefined;
}

function checkValue(input: Input, value: JsonValue, path: string, problems: Problem[]): void {
  if (input.kind === "message") {
    checkMessage(input.desc, value, path, problems);
    return;
  }
  const bad = checkLeaf(input, value);
  if (bad) problems.push({ path, message: bad });
}

function checkLeaf(input: Exclude<Input, { kind: "message" }>, value: JsonValue): string | undefined {
  switch (input.kind) {
    case "text":
      return typeof value !== "string" ? `must be a text, not ${kindOf(value)}` : wellFormed(value) ? undefined : "is not Unicode";
    case "bool":
      return typeof value === "boolean" ? undefined : "must be true or false";
    case "int":
      return typeof value === "number" || typeof value === "string" ? checkInt(input, value) : `must be a whole number, not ${kindOf(value)}`;
    case "float":
    case "double":
      return checkFloat(input.kind, value);
    case "bytes":
      return typeof value === "string" && isBase64(value) ? undefined : "must be bytes in base64";
    case "enum":
      return checkEnum(input.desc, value);
    case "time":
      return checkTime(value);
    case "duration":
      return checkDuration(value);
    case "mask":
      if (typeof value !== "string") return "must be a text of paths, with commas between";
      return value === "" || value.split(",").every((path) => /^[a-z][a-zA-Z0-9]*(\.[a-z][a-zA-Z0-9]*)*$/.test(path.trim()) && path.trim() === path)
        ? undefined : "must be paths such as displayName,app.id, without spaces and underscores";
    case "json":
      if (input.desc.typeName === "google.protobuf.ListValue") return Array.isArray(value) ? undefined : "must be a list";
      if (input.desc.typeName === "google.protobuf.Value") return undefined;
      if (!isObject(value)) return `must be an object, not ${kindOf(value)}`;
      return input.desc.typeName === "google.protobuf.Any" && Object.keys(value).length > 0 && !value["@type"]
        ? "must name its type in @type, such as type.googleapis.com/google.protobuf.Duration" : undefined;
  }
}

function checkInt(input: Extract<Input, { kind: "int" }>, value: number | string): string | undefined {
  if (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value)) return "is too large to be exact: put it in quotes";
  let text = String(value);
  // Protobuf takes 1e3 for a thousand, where no more than 32 bits are wanted.
  if (!input.long && /^-?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?$/i.test(text) && Number.isSafeInteger(Number(text))) text = String(Number(text));
  if (!/^-?(0|[1-9]\d*)$/.test(text)) return "must be a whole number";
  const n = BigInt(text);
  return n < input.min || n > input.max ? `must be from ${input.min} to ${input.max}` : undefined;
}

function checkFloat(kind: "float" | "double", value: JsonValue): string | undefined {
  if (value === "NaN" || value === "Infinity" || value === "-Infinity") return undefined;
  const n = typeof value === "number" ? value : typeof value === "string" && /^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value) ? Number(value) : NaN;
  if (Number.isNaN(n)) return "must be a number";
  return !Number.isFinite(n) || (kind === "float" && Math.abs(n) > 3.4028234663852886e38) ? "is out of range" : undefined;
}

function checkEnum(desc: DescEnum, value: JsonValue): string | undefined {
  if (desc.typeName === "google.protobuf.NullValue") return value === null || value === "NULL_VALUE" || value === 0 ? undefined : "must be null";
  if (typeof value === "number") return Number.isInteger(value) && Math.abs(value) <= 2 ** 31 - 1 ? undefined : "must be a name or a whole number";
  if (typeof value === "string" && desc.values.some((one) => one.name === value)) return undefined;
  return `must be one of ${desc.values.map((one) => one.name).join(", ")}`;
}

function checkTime(value: JsonValue): string | undefined {
  const fits = typeof value === "string" && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/.test(value);
  const ms = fits ? Date.parse(value.replace(/\.\d+/, "")) : NaN;
  return ms >= Date.parse("0001-01-01T00:00:00Z") && ms <= Date.parse("9999-12-31T23:59:59Z") ? undefined : "must be a time such as 2026-01-31T09:30:00Z";
}

function checkDuration(value: JsonValue): string | undefined {
  const match = typeof value === "string" ? /^-?(\d+)(?:\.\d{1,9})?s$/.exec(value) : null;
  if (!match) return "must be seconds such as 90s or 1.5s";
  return BigInt(match[1]!) <= 315_576_000_000n ? undefined : "is out of range";
}

function isBase64(text: string): boolean {
  return /^[A-Za-z0-9+/_-]*={0,2}$/.test(text) && text.replace(/=+$/, "").length % 4 !== 1 && (!text.includes("=") || text.length % 4 === 0);
}

function wellFormed(text: string): boolean {
  return !/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(text);
}

function kindOf(value: JsonValue): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  return { string: "a text", number: "a number", boolean: "true or false" }[typeof value as string] ?? "an object";
}

function suggest(desc: DescMessage, name: string): string {
  const plain = (text: string) => text.replace(/[_-]/g, "").toLowerCase();
  let nearest: DescField | undefined;
  let least = 3;
  for (const field of desc.fields) {
    const distance = editDistance(plain(field.name), plain(name));
    if (distance < least) [nearest, least] = [field, distance];
  }
  return nearest ? `; did you mean ${nearest.jsonName}?` : "";
}

/** How many letters must be changed, put in or left out. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const above = row;
    row = [i];
    for (let j = 1; j <= b.length; j++) row.push(Math.min(above[j]! + 1, row[j - 1]! + 1, above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
  }
  return row[b.length]!;
}

/** What a text of JSON is: a request, or what is wrong with it. */
export type Parsed = { readonly json: JsonObject; readonly problems: readonly Problem[] } | { readonly syntax: string };

/** Reads the text of the JSON view. A request that fits comes back in its one form. */
export function parseRequest(desc: DescMessage, text: string, registry: Registry): Parsed {
  let json: JsonValue;
  try {
    json = text.trim() === "" ? {} : (JSON.parse(text) as JsonValue);
  } catch (error) {
    return { syntax: syntaxMessage(text, error) };
  }
  if (!isObject(json)) return { syntax: `The request must be an object, not ${kindOf(json)}.` };
  const problems = problemsOf(desc, json, registry);
  return { json: problems.length === 0 ? normal(desc, json, registry) : json, problems };
}

/** A request in protobuf's one form: the names of JSON, no empty values, the order of the fields. */
export function normal(desc: DescMessage, json: JsonValue, registry: Registry): JsonObject {
  return toJson(desc, fromJson(desc, json, { registry }), { registry }) as JsonObject;
}

/** What is wrong with a text that is no JSON, with its line and column where the engine says the place. */
function syntaxMessage(text: string, error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const position = /position (\d+)/.exec(message)?.[1];
  const what = message.replace(/^JSON\.parse: /, "").replace(/ in JSON at position.*$| \(line.*$/s, "");
  if (position === undefined) return `This is not JSON: ${what}.`;
  const before = text.slice(0, Number(position)).split("\n");
  return `This is not JSON: ${what}, at line ${before.length}, column ${before.at(-1)!.length + 1}.`;
}
