import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createTransport } from "@c1proxy/client/transport";
import { diagnose, explain } from "@c1proxy/client/errors";
import { ConnectorService } from "@c1proxy/client/c1.api.app.v1/ConnectorService";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "@c1proxy/client/gen/google/rpc/error_details_pb";

const { confirmSyncValid, list } = ConnectorService.method;
const detail = (schema, init) => ({ type: schema.typeName, value: Buffer.from(toBinary(schema, create(schema, init))).toString("base64").replace(/=+$/, "") });
const info = (reason, metadata = {}) => detail(ErrorInfoSchema, { domain: "c1proxy", reason, metadata });

// failing calls a method whose answer is an error, and returns what it threw.
function failing(status, body, headers = {}, call = (c) => c.confirmSyncValid({})) {
  const fetch = async () => new Response(typeof body === "string" ? body : JSON.stringify(body), { status, headers: { "content-type": "application/json", ...headers } });
  const client = createClient(ConnectorService, createTransport({ baseUrl: "https://gw.example.com", credential: "k", fetch }));
  return call(client).then(() => assert.fail("it succeeded"), (e) => e);
}

test("a refusal by a rule", async () => {
  const thrown = await failing(403, { code: "permission_denied", message: "no rule allows it", details: [info("CONDITION_DENIED", { rules: "payments/allow/0", method: "x" })] }, { "x-request-id": "r-1" });
  const { error, ...failure } = explain(thrown, confirmSyncValid);
  assert.deepEqual(failure, {
    code: "permission_denied", reason: "CONDITION_DENIED", title: "Your team may not do this with these values", detail: "no rule allows it",
    advice: "Your team’s rules have conditions, which this request does not meet.", retryAfterMs: undefined, fields: [], requestId: "r-1", mayHaveActed: false,
    metadata: { rules: "payments/allow/0", method: "x" },
  });
  assert.equal(error, thrown);
});

test("a limit says when to come back, by RetryInfo or by Retry-After", async () => {
  const limited = (details, headers) => failing(429, { code: "resource_exhausted", message: "m", details }, headers).then((e) => explain(e).retryAfterMs);
  const retryInfo = detail(RetryInfoSchema, { retryDelay: { seconds: 1n, nanos: 500_000_000 } });
  assert.equal(await limited([info("RATE_LIMITED", { rule: "caller" }), retryInfo], { "retry-after": "9" }), 1500);
  assert.equal(await limited([info("RATE_LIMITED")], { "retry-after": "2" }), 2000);
  assert.equal(await limited([info("RATE_LIMITED")]), undefined);
  assert.equal(await limited([], { "retry-after": "soon" }), undefined);
  const date = await limited([], { "retry-after": new Date(Date.now() + 30_000).toUTCString() });
  assert.ok(date > 25_000 && date <= 30_000, String(date));
});

test("fields come from BadRequest and from the metadata", async () => {
  const bad = detail(BadRequestSchema, { fieldViolations: [{ field: "app_id", description: "is empty" }] });
  assert.deepEqual(explain(await failing(400, { code: "invalid_argument", message: "app_id: is bad", details: [info("BAD_REQUEST", { field: "app_id" }), bad] })).fields, [{ field: "app_id", description: "is empty" }]);
  assert.deepEqual(explain(await failing(400, { code: "invalid_argument", message: "x: is bad", details: [info("BAD_PATH_VALUE", { field: "x" })] })).fields, [{ field: "x", description: "x: is bad" }]);
});

test("mayHaveActed: what was sent and has no clear answer, of methods with side effects", async () => {
  const open = ["OUTCOME_UNKNOWN", "AUDIT_NOT_DURABLE", "DEADLINE_EXCEEDED", "CANCELED", "INTERNAL"];
  for (const reason of reasons) {
    const thrown = await failing(500, { code: "unknown", message: "m", details: [info(reason)] });
    assert.equal(explain(thrown, confirmSyncValid).mayHaveActed, open.includes(reason), reason);
    assert.equal(explain(thrown).mayHaveActed, open.includes(reason), reason);
    assert.equal(explain(thrown, list).mayHaveActed, false, reason);
  }
  // Without a reason, such as of a balancer's answer, the code decides.
  for (const [status, want] of [[502, true], [503, true], [504, true], [500, true], [401, false], [403, false], [404, false], [429, true]]) {
    assert.equal(explain(await failing(status, "<html>", { "content-type": "text/html" }), confirmSyncValid).mayHaveActed, want, String(status));
  }
  assert.equal(explain(await failing(200, "not JSON"), confirmSyncValid).mayHaveActed, true);
  // Another's ErrorInfo says nothing.
  const foreign = await failing(500, { code: "unknown", message: "m", details: [detail(ErrorInfoSchema, { domain: "else.example.com", reason: "METHOD_DENIED" })] });
  assert.equal(explain(foreign).reason, "");
  assert.equal(explain(foreign).mayHaveActed, true);
});

const reasons = [...readFileSync(new URL("../../../docs/errors.md", import.meta.url), "utf8").matchAll(/^\| `([A-Z_]+)` \|/gm)].map((m) => m[1]);

test("every documented reason, and every code, has words", async () => {
  assert.ok(reasons.length >= 35, String(reasons.length));
  const titles = new Map();
  for (const reason of reasons) {
    const failure = explain(await failing(500, { code: "internal", message: "m", details: [info(reason)] }));
    assert.notEqual(failure.title, "It failed", `${reason} has no words of its own`);
    assert.ok(failure.advice.length > 8, reason);
    titles.set(reason, failure.title);
  }
  for (const code of Object.values(Code).filter((c) => typeof c === "number")) {
    const failure = explain(new ConnectError("m", code));
    assert.match(failure.code, /^[a-z_]+$/);
    assert.ok(failure.title && failure.advice, failure.code);
  }
});

test("no answer: fetch says TypeError and no more", async () => {
  const fetch = async () => { throw new TypeError("Failed to fetch"); };
  const client = createClient(ConnectorService, createTransport({ baseUrl: "https://gw.example.com", credential: "k", fetch }));
  const thrown = await client.confirmSyncValid({}).catch((e) => e);
  const failure = explain(thrown, confirmSyncValid);
  assert.equal(failure.reason, "NO_ANSWER");
  assert.equal(failure.mayHaveActed, true);
  assert.equal(failure.requestId, "");
  assert.match(failure.advice, /cors\.allowed_origins/);
  assert.equal(explain(thrown, list).mayHaveActed, false);
});

test("the page's own signal and timeout are told apart", async () => {
  const fetch = (_, { signal }) => new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason));
  });
  const client = createClient(ConnectorService, createTransport({ baseUrl: "https://gw.example.com", credential: "k", fetch }));
  const gone = new AbortController();
  const call = client.list({}, { signal: gone.signal }).catch((e) => e);
  gone.abort();
  assert.equal(explain(await call).reason, "ABORTED");
  assert.equal(explain(await client.list({}, { timeoutMs: 10 }).catch((e) => e)).reason, "TIMED_OUT");
});

test("anything that was thrown can be explained", () => {
  for (const thrown of [undefined, null, "text", 7, {}, new Error("x"), new DOMException("gone", "AbortError")]) {
    const failure = explain(thrown);
    assert.ok(failure.title && failure.advice && failure.code);
  }
});

test("diagnose asks twice, without a credential", async (t) => {
  const thrown = new ConnectError("x", Code.Unknown, undefined, undefined, new TypeError("Failed to fetch"));
  const at = (href) => { globalThis.location = new URL(href); t.after(() => delete globalThis.location); };
  const answering = (cors, opaque) => {
    const asked = [];
    const fetch = async (url, { mode, credentials, headers }) => {
      asked.push(mode);
      assert.equal(credentials, "omit");
      assert.equal(headers, undefined);
      if (mode === "cors" ? !cors : !opaque) throw new TypeError("Failed to fetch");
      return new Response();
    };
    return { asked, fetch };
  };
  const ask = async (cors, opaque, baseUrl = "https://gw.example.com") => diagnose(thrown, { baseUrl, ...answering(cors, opaque) });
  at("https://app.example.com/page");
  assert.equal((await ask(true, true)).reason, "INTERRUPTED");
  const refused = await ask(false, true);
  assert.equal(refused.reason, "ORIGIN_REFUSED");
  assert.match(refused.advice, /https:\/\/app\.example\.com/);
  assert.equal(refused.mayHaveActed, true, "a balancer may have answered in the middle of the call");
  const away = await ask(false, false);
  assert.equal(away.reason, "UNREACHABLE");
  assert.equal(away.mayHaveActed, true);
  const mixed = await ask(false, false, "http://gw.example.com");
  assert.equal(mixed.reason, "MIXED_CONTENT");
  assert.equal(mixed.mayHaveActed, false);
  for (const local of ["http://127.0.0.2:8080", "http://c1proxy.localhost", "http://[::1]:8080"]) {
    assert.equal((await ask(false, false, local)).reason, "UNREACHABLE", local);
  }
  const read = await diagnose(thrown, { baseUrl: "https://gw.example.com", method: list, ...answering(false, true) });
  assert.deepEqual([read.reason, read.mayHaveActed], ["ORIGIN_REFUSED", false]);
  assert.equal((await diagnose(new ConnectError("x", Code.NotFound), { baseUrl: "https://gw.example.com", fetch: assert.fail })).code, "not_found");
});

test("what blocks the questions of diagnose need not have blocked the call", async (t) => {
  const thrown = new ConnectError("x", Code.Unknown, undefined, undefined, new TypeError("Failed to fetch"));
  globalThis.location = new URL("https://app.example.com/page");
  globalThis.document = new EventTarget();
  t.after(() => { delete globalThis.location; delete globalThis.document; });
  // connect-src allows https://gw.example.com/c1.api.app.v1.ConnectorService/ alone.
  const fetch = async (url) => {
    document.dispatchEvent(Object.assign(new Event("securitypolicyviolation"), { blockedURI: String(url) }));
    throw new TypeError("Failed to fetch");
  };
  const failure = await diagnose(thrown, { baseUrl: "https://gw.example.com", method: confirmSyncValid, fetch });
  assert.deepEqual([failure.reason, failure.mayHaveActed], ["BLOCKED_BY_PAGE", true]);
});
