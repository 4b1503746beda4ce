import assert from "node:assert/strict";
import { test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { authenticate, because, createTransport } from "@c1proxy/client/transport";
import { explain } from "@c1proxy/client/errors";
import { ConnectorService } from "@c1proxy/client/c1.api.app.v1/ConnectorService";

const key = "c1p_secretsecretsecret";

// recording is a fetch that keeps what it was asked, and answers with nothing in it.
function recording() {
  const calls = [];
  const fetch = async (url, init) => {
    calls.push({ url, method: init.method, headers: Object.fromEntries(init.headers), body: init.body });
    const binary = /proto/.test(init.headers.get("content-type") ?? "") || /encoding=proto/.test(url);
    if (/grpc-web/.test(init.headers.get("content-type") ?? "")) {
      const trailer = new TextEncoder().encode("grpc-status: 0\r\n");
      return new Response(new Uint8Array([0, 0, 0, 0, 0, 0x80, 0, 0, 0, trailer.length, ...trailer]), { headers: { "content-type": "application/grpc-web+proto" } });
    }
    return binary
      ? new Response(new Uint8Array(), { headers: { "content-type": "application/proto" } })
      : new Response("{}", { headers: { "content-type": "application/json" } });
  };
  return { calls, fetch };
}

const connector = (options) => createClient(ConnectorService, createTransport({ baseUrl: "https://gw.example.com", credential: key, ...options }));

test("reads go by GET and the rest by POST; the credential stands in the header alone", async () => {
  const { calls, fetch } = recording();
  const client = connector({ fetch, team: "payments" });
  await client.list({ appId: "a" });
  await client.confirmSyncValid({ appId: "a" });
  assert.deepEqual(calls.map((c) => c.method), ["GET", "POST"]);
  for (const call of calls) {
    assert.equal(call.headers.authorization, `Bearer ${key}`);
    assert.equal(call.headers["c1proxy-team"], "payments");
    assert.ok(!JSON.stringify([call.url, call.body]).includes(key));
  }
});

test("reads go by POST where that is wished, and with gRPC-Web", async () => {
  for (const options of [{ useHttpGet: false }, { protocol: "grpc-web" }]) {
    const { calls, fetch } = recording();
    await connector({ fetch, ...options }).list({ appId: "a" });
    assert.deepEqual(calls.map((c) => c.method), ["POST"]);
    assert.equal(calls[0].headers.authorization, `Bearer ${key}`);
  }
});

test("a read whose URL would be too long goes by POST, with the same message", async () => {
  for (const useBinaryFormat of [false, true]) {
    const { calls, fetch } = recording();
    const short = { appId: "a" };
    const long = { appId: "ä€😀".repeat(2000) };
    const client = connector({ fetch, useBinaryFormat });
    await client.list(short);
    await client.list(long);
    assert.deepEqual(calls.map((c) => c.method), ["GET", "POST"]);
    assert.equal(calls[1].url, "https://gw.example.com/c1.api.app.v1.ConnectorService/List");
    const plain = recording();
    await connector({ fetch: plain.fetch, useBinaryFormat, useHttpGet: false }).list(long);
    const text = (body) => Buffer.from(body).toString("hex");
    assert.equal(text(calls[1].body), text(plain.calls[0].body));
    assert.equal(calls[1].headers["content-type"], plain.calls[0].headers["content-type"]);
    assert.equal(calls[1].headers["connect-protocol-version"], "1");
  }
});

test("a function is asked for the credential of each call", async () => {
  const { calls, fetch } = recording();
  let n = 0;
  const client = connector({ fetch, credential: async (signal) => { assert.ok(signal instanceof AbortSignal); return `token${++n}`; } });
  await client.list({});
  await client.list({});
  assert.deepEqual(calls.map((c) => c.headers.authorization), ["Bearer token1", "Bearer token2"]);
});

test("without a credential nothing is sent, and what is none is not quoted", async () => {
  for (const credential of ["", "two words", "line\nbreak", "schlüssel", undefined, () => "", () => undefined, () => { throw new Error("refresh failed"); }]) {
    const { calls, fetch } = recording();
    const thrown = await connector({ fetch, credential: typeof credential === "undefined" ? () => undefined : credential }).confirmSyncValid({}).catch((e) => e);
    const failure = explain(thrown);
    assert.equal(failure.reason, "NO_CREDENTIAL");
    assert.equal(failure.code, "unauthenticated");
    assert.equal(failure.mayHaveActed, false);
    assert.equal(calls.length, 0);
    if (typeof credential === "string" && credential) assert.ok(!`${thrown}${thrown.stack}`.includes(credential));
  }
});

test("a reason is percent-encoded UTF-8 of at most 512 bytes", async () => {
  const { calls, fetch } = recording();
  const client = connector({ fetch, reason: "the desk's usual" });
  await client.confirmSyncValid({}, { headers: because(" HR bestätigt: 100 % – 😀\n") });
  await client.confirmSyncValid({});
  assert.deepEqual(calls.map((c) => decodeURIComponent(c.headers["c1proxy-reason"])), ["HR bestätigt: 100 % – 😀", "the desk's usual"]);
  assert.match(calls[0].headers["c1proxy-reason"], /^[\x21-\x7e]+$/);
  assert.equal(decodeURIComponent(because("é".repeat(256))["C1proxy-Reason"]).length, 256);
  assert.throws(() => because("é".repeat(256) + "x"), { name: "RangeError", message: /513 bytes.*512/ });
  assert.throws(() => because("  "), { name: "RangeError", message: /empty/ });
  assert.equal(because("half \ud83d")["C1proxy-Reason"], encodeURIComponent("half \ufffd"));
});

test("a URL that cannot be a gateway's is refused at once, without what it holds", () => {
  for (const baseUrl of ["", "gw.example.com", "ftp://gw.example.com", "https://u:p4ss@gw.example.com", "https://gw.example.com?key=p4ss"]) {
    assert.throws(() => createTransport({ baseUrl, credential: key }), (e) => e instanceof TypeError && !e.message.includes("p4ss"), baseUrl);
  }
});

test("authenticate is an interceptor of Connect's own transports", async () => {
  for (const make of [createConnectTransport, createGrpcWebTransport]) {
    const { calls, fetch } = recording();
    const client = createClient(ConnectorService, make({ baseUrl: "https://gw.example.com", fetch, interceptors: [authenticate({ credential: key, team: "t" })] }));
    await client.confirmSyncValid({}, { headers: because("x") });
    assert.equal(calls[0].headers.authorization, `Bearer ${key}`);
    assert.equal(calls[0].headers["c1proxy-team"], "t");
    assert.equal(calls[0].headers["c1proxy-reason"], "x");
  }
});
