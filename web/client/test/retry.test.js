import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createTransport } from "@c1proxy/client/transport";
import { explain } from "@c1proxy/client/errors";
import { retry } from "@c1proxy/client/retry";
import { tail } from "@c1proxy/client/tail";
import { ConnectorService } from "@c1proxy/client/c1.api.app.v1/ConnectorService";
import { RetryInfoSchema } from "@c1proxy/client/gen/google/rpc/error_details_pb";

// after returns a client whose first calls meet the given answers.
function after(answers, options = {}, credential = "k") {
  const sent = [];
  const fetch = async (_, { headers }) => {
    sent.push(headers.get("authorization"));
    const answer = answers[sent.length - 1];
    if (answer instanceof Error) throw answer;
    return answer ?? new Response("{}", { headers: { "content-type": "application/json" } });
  };
  const transport = createTransport({ baseUrl: "https://gw.example.com", credential, fetch, interceptors: [retry({ waitMs: 1, ...options })] });
  return { sent, client: createClient(ConnectorService, transport) };
}

const failed = (code, status, ms) => {
  const value = ms === undefined ? undefined : Buffer.from(toBinary(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1e6 } }))).toString("base64");
  return new Response(JSON.stringify({ code, message: "m", details: value === undefined ? [] : [{ type: "google.rpc.RetryInfo", value }] }), { status, headers: { "content-type": "application/json" } });
};
const unavailable = (ms) => failed("unavailable", 503, ms);

test("a read is repeated while it is unavailable, with the credential of each attempt", async () => {
  let n = 0;
  const { sent, client } = after([unavailable(), new TypeError("Failed to fetch")], {}, () => `t${++n}`);
  await client.list({});
  assert.deepEqual(sent, ["Bearer t1", "Bearer t2", "Bearer t3"]);
});

test("it gives up after so many attempts", async () => {
  const { sent, client } = after([unavailable(), unavailable(), unavailable(), unavailable()], { attempts: 2 });
  assert.equal(explain(await client.list({}).catch((e) => e)).code, "unavailable");
  assert.equal(sent.length, 2);
});

test("what changes something is made once, whatever the error says", async () => {
  for (const answer of [unavailable(1), failed("resource_exhausted", 429, 1), new TypeError("Failed to fetch"), failed("unknown", 500), failed("aborted", 409)]) {
    const { sent, client } = after([answer]);
    await assert.rejects(client.confirmSyncValid({}));
    assert.equal(sent.length, 1);
  }
});

test("a read that cannot come good is made once", async () => {
  for (const answer of [failed("permission_denied", 403), failed("not_found", 404), failed("resource_exhausted", 429), failed("invalid_argument", 400), failed("internal", 500)]) {
    const { sent, client } = after([answer]);
    await assert.rejects(client.list({}));
    assert.equal(sent.length, 1);
  }
});

test("it waits as long as RetryInfo says, and not longer than is wished", async () => {
  const waits = [];
  const { sent, client } = after([failed("resource_exhausted", 429, 40), unavailable(30)], { onWait: (failure, ms) => waits.push([failure.code, ms]) });
  await client.list({});
  assert.equal(sent.length, 3);
  assert.deepEqual(waits, [["resource_exhausted", 40], ["unavailable", 30]]);
  const long = after([unavailable(60_000)], { maxWaitMs: 1000 });
  assert.equal(explain(await long.client.list({}).catch((e) => e)).retryAfterMs, 60_000);
  assert.equal(long.sent.length, 1);
});

test("a wait ends with the call's signal", async () => {
  const gone = new AbortController();
  const { sent, client } = after([unavailable(5000)], { onWait: () => gone.abort() });
  assert.equal(explain(await client.list({}, { signal: gone.signal }).catch((e) => e)).reason, "ABORTED");
  assert.equal(sent.length, 1);
  const late = after([unavailable(5000)]);
  assert.equal(explain(await late.client.list({}, { timeoutMs: 20 }).catch((e) => e)).reason, "TIMED_OUT");
});

test("a wait that no timer can hold is a day, and not none", async (t) => {
  const day = 24 * 60 * 60 * 1000;
  const far = (headers) => new Response("{}", { status: 503, headers: { "content-type": "application/json", "retry-after": "9999999999", ...headers } });
  const gone = new AbortController();
  t.after(() => gone.abort());
  const waits = [];
  const { sent, client } = after([far(), far()], { maxWaitMs: Infinity, onWait: (_, ms) => waits.push(ms) });
  client.list({}, { signal: gone.signal }).catch(() => {});
  const { ConnectError, Code } = await import("@connectrpc/connect");
  const busy = streams(...Array.from({ length: 9 }, () => [new ConnectError("x", Code.Unavailable, { "retry-after": "9999999999" })]));
  void (async () => { for await (const _ of tail(busy, {}, { signal: gone.signal, onBreak: (_, ms) => waits.push(ms) })); })();
  await new Promise((resolve) => setTimeout(resolve, 60));
  assert.deepEqual(waits, [day, day]);
  assert.equal(sent.length, 1);
  assert.equal(busy.asked.length, 1);
});

// streams is a client of Tail whose streams are scripted: a list of what each sends.
function streams(...scripts) {
  const asked = [];
  return {
    asked,
    async *tail(request) {
      asked.push(request.from);
      for (const one of scripts[asked.length - 1] ?? [new Error("no more")]) {
        if (one instanceof Error) throw one;
        yield { log: "a", records: [], ...one };
      }
    },
  };
}

test("a tail goes on from where it broke, until it is over", async () => {
  const { ConnectError, Code } = await import("@connectrpc/connect");
  const gone = new AbortController();
  const broken = [];
  const client = streams(
    [{ next: 5n }, { next: 7n }],
    [{ next: 8n }, new ConnectError("x", Code.Unavailable)],
    [new ConnectError("missing EndStreamResponse", Code.Unknown)],
    [{ next: 9n }],
  );
  const got = [];
  for await (const { next } of tail(client, { filter: {} }, { signal: gone.signal, maxWaitMs: 1, onBreak: (f) => broken.push(f?.code) })) {
    got.push(next);
    if (next === 9n) gone.abort();
  }
  assert.deepEqual(got, [5n, 7n, 8n, 9n]);
  assert.deepEqual(client.asked, [undefined, 7n, 8n, 8n]);
  assert.deepEqual(broken, [undefined, "unavailable", "unknown"]);
});

test("a tail throws what waiting does not heal, and another replica's log", async () => {
  const { ConnectError, Code } = await import("@connectrpc/connect");
  const drain = async (client) => { for await (const _ of tail(client, {}, { maxWaitMs: 1 })); };
  for (const code of [Code.Unauthenticated, Code.PermissionDenied, Code.OutOfRange, Code.Unimplemented, Code.InvalidArgument]) {
    const refused = new ConnectError("x", code);
    await assert.rejects(drain(streams([refused])), refused);
  }
  await assert.rejects(drain(streams([{ next: 1n }], [{ next: 2n, log: "b" }])), { code: Code.FailedPrecondition });
});

test("a tail whose token expires goes on with a fresh one, once", async () => {
  const { ConnectError, Code } = await import("@connectrpc/connect");
  const expired = new ConnectError("the token has expired", Code.Unauthenticated);
  const got = [];
  const broken = [];
  const drain = async (client) => { for await (const { next } of tail(client, {}, { maxWaitMs: 1, onBreak: (f, ms) => broken.push([f.code, ms]) })) got.push(next); };
  const client = streams([{ next: 3n }, expired], [{ next: 4n }, expired], [expired], [{ next: 5n }]);
  await assert.rejects(drain(client), expired);
  assert.deepEqual(got, [3n, 4n]);
  assert.deepEqual(client.asked, [undefined, 3n, 4n]);
  assert.deepEqual(broken, [["unauthenticated", 0], ["unauthenticated", 0]]);
});

test("a tail's transport asks for the credential of each stream", async () => {
  const { AuditService } = await import("@c1proxy/client/c1proxy.v1/AuditService");
  const tokens = [];
  const frame = (flags, value) => {
    const bytes = new TextEncoder().encode(JSON.stringify(value));
    const head = new Uint8Array(5);
    head[0] = flags;
    new DataView(head.buffer).setUint32(1, bytes.length);
    return [head, bytes];
  };
  const fetch = async (_, { headers }) => {
    tokens.push(headers.get("authorization"));
    const answer = tokens.length < 3 ? frame(0, { log: "a", next: String(tokens.length) }) : [];
    return new Response(new Blob([...answer, ...frame(2, { error: { code: "unauthenticated", message: "expired" } })]), { headers: { "content-type": "application/connect+json" } });
  };
  let n = 0;
  const audit = createClient(AuditService, createTransport({ baseUrl: "https://gw.example.com", credential: () => `t${++n}`, fetch }));
  const drain = async () => { for await (const _ of tail(audit, {})); };
  assert.equal(explain(await drain().catch((e) => e)).code, "unauthenticated");
  assert.deepEqual(tokens, ["Bearer t1", "Bearer t2", "Bearer t3"]);
});
