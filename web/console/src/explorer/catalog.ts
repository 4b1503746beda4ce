import { createFileRegistry, type DescMethod, type FileRegistry, fromBinary, getOption, hasOption } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema, MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";

/** A method that can be called, as it is listed and searched. */
export interface Method {
  readonly desc: DescMethod;
  /** The service's full name, such as c1.api.app.v1.ConnectorService. */
  readonly service: string;
  readonly name: string;
  /** service/name */
  readonly id: string;
  /** Whether it changes nothing: it is run without asking. */
  readonly reads: boolean;
  /** Whether it takes something away or confirms a loss: it is asked with a stronger word. */
  readonly dangerous: boolean;
  readonly streams: boolean;
  /** C1's own path, such as GET /api/v1/apps/{id}; empty if it has none. */
  readonly rest: string;
  /** What is searched: names and path, also in their words. */
  readonly words: string;
}

/** All methods that the gateway has, and the types that they are made of. */
export interface Catalog {
  readonly registry: FileRegistry;
  readonly methods: readonly Method[];
  find(id: string): Method | undefined;
}

/** Reads what the gateway serves as descriptors.binpb: a google.protobuf.FileDescriptorSet. */
export function readCatalog(bytes: Uint8Array): Catalog {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes));
  const methods: Method[] = [];
  for (const file of registry.files) {
    if (!/^c1(proxy)?\./.test(file.proto.package)) continue;
    for (const service of file.services) for (const desc of service.methods) methods.push(describe(desc, restOf(desc, registry)));
  }
  methods.sort((a, b) => compare(a.service, b.service) || compare(a.name, b.name));
  const byId = new Map(methods.map((method) => [method.id, method]));
  return { registry, methods, find: (id) => byId.get(id) };
}

function describe(desc: DescMethod, rest: string): Method {
  const service = desc.parent.typeName;
  const id = `${service}/${desc.name}`;
  return {
    desc, service, id, rest,
    name: desc.name,
    reads: desc.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS,
    dangerous: isDangerous(desc),
    streams: desc.methodKind !== "unary",
    words: `${id} ${rest} ${id.replace(/([a-z0-9])([A-Z])/g, "$1 $2")}`.toLowerCase(),
  };
}

/** Verbs after which something is gone, or may be. */
const dangerousVerbs = /^(Bulk)?(Delete|Remove|Revoke|Destroy|Purge|Deprovision|Uninstall|Disable|Reset|Rotate|Terminate|Clear|Confirm)(?![a-z])/;

function isDangerous(desc: DescMethod): boolean {
  return desc.idempotency !== MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS && dangerousVerbs.test(desc.name);
}

/** The rule of google.api.http, read by its own description in the set. */
function restOf(desc: DescMethod, registry: FileRegistry): string {
  const extension = registry.getExtension("google.api.http");
  if (!extension || !hasOption(desc, extension)) return "";
  const rule = getOption(desc, extension) as unknown as { pattern?: { case?: string; value?: unknown } };
  const { case: verb, value } = rule.pattern ?? {};
  return verb && typeof value === "string" ? `${verb.toUpperCase()} ${value}` : "";
}

/** The methods in which every word of the query occurs, the best first. */
export function searchMethods(methods: readonly Method[], query: string): readonly Method[] {
  const words = query.toLowerCase().split(/[\s/]+/).filter(Boolean);
  if (words.length === 0) return methods;
  const found: { method: Method; score: number }[] = [];
  for (const method of methods) {
    if (!words.every((word) => method.words.includes(word))) continue;
    const name = method.name.toLowerCase();
    const service = method.service.slice(method.service.lastIndexOf(".") + 1).toLowerCase();
    let score = 0;
    for (const word of words) {
      if (name === word) score += 8;
      else if (name.startsWith(word)) score += 4;
      else if (name.includes(word)) score += 2;
      if (service.startsWith(word)) score += 2;
      else if (service.includes(word)) score += 1;
    }
    found.push({ method, score });
  }
  return found.sort((a, b) => b.score - a.score || compare(a.method.id, b.method.id)).map(({ method }) => method);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
