import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { bundle } from "./packed.js";
import { gateway, open, serve, until } from "./kit.js";

const sample = readFileSync(new URL("sample.ts", import.meta.url), "utf8");
const confirmPath = "/c1.api.app.v1.ConnectorService/ConfirmSyncValid";
const appsPath = "/c1.api.app.v1.Apps/List";

let script;

// site serves the sample page on an origin of its own, under a policy of its own that
// lets it call one gateway, which files.policy says when there is one.
async function site(t) {
  script ??= await bundle(t, { "sample.ts": sample });
  const files = { "/main.js": script, "/index.html": '<!doctype html><link rel="icon" href="data:,"><title>sample</title><h1>…</h1><script type="module" src="/main.js"></script>' };
  const policy = {};
  const origin = await serve(t, files, policy);
  const allow = (url) => { policy["content-security-policy"] = `default-src 'none'; img-src data:; script-src 'self'; connect-src ${url}; require-trusted-types-for 'script'`; };
  return { origin, allow };
}

// visit starts a gateway that allows the page's origin, or another one, and opens it.
async function visit(t, { allowed = true, limits, callers } = {}) {
  const { origin, allow } = await site(t);
  const g = await gateway(t, {
    ...(callers && { callers }),
    more: { cors: { allowed_origins: [allowed ? origin : "https://app.example.com"] } },
    teams: limits ? { payments: { limits } } : {},
  });
  allow(g.url);
  const page = await open(t, `${origin}/`, { hosts: [g.url] });
  await page.getByRole("heading", { name: "ready" }).waitFor();
  const { facts, keys } = g;
  return {
    g, origin, page,
    // The requests to the gateway, without those that the browser makes of its own accord.
    calls: () => page.watch.requests.filter((r) => r.url.startsWith(g.url) && r.method !== "OPTIONS"),
    preflights: () => page.watch.requests.filter((r) => r.url.startsWith(g.url) && r.method === "OPTIONS"),
    confirm: (setup = {}, reason = "HR bestätigt es") =>
      page.evaluate(([s, f, why]) => c1.confirm(s, f.app_id, f.connector_id, f.sync_lifecycle_id, why), [{ baseUrl: g.url, credential: keys.desk, ...setup }, facts, reason]),
    apps: (setup = {}, size = 2, options = {}) => page.evaluate(([s, n, o]) => c1.apps(s, n, o), [{ baseUrl: g.url, credential: keys.desk, ...setup }, size, options]),
  };
}

const protocols = { Connect: {}, "Connect, binary": { useBinaryFormat: true }, "gRPC-Web": { protocol: "grpc-web" } };

for (const [name, setup] of Object.entries(protocols)) {
  test(`${name}: a page of an allowed origin confirms a sync; twice is a failed precondition`, async (t) => {
    const { g, page, confirm, calls } = await visit(t);
    const first = await confirm(setup);
    assert.deepEqual(first.result, { type: "c1.api.app.v1.ConfirmSyncValidResponse", json: {} });
    const { failure, details } = await confirm(setup);
    assert.equal(failure.code, "failed_precondition");
    assert.equal(failure.reason, "UPSTREAM_REFUSED");
    assert.match(failure.metadata.upstream_status, /^4\d\d$/);
    assert.equal(failure.mayHaveActed, false);
    assert.match(failure.requestId, /./);
    assert.ok(details >= 1);
    assert.deepEqual(calls().map((c) => [c.method, new URL(c.url).pathname]), [["POST", confirmPath], ["POST", confirmPath]]);

    const records = g.records().filter((r) => r.request_id === failure.requestId);
    assert.deepEqual(records.map((r) => r.kind).sort(), ["intent", "outcome"]);
    for (const record of records) {
      assert.equal(record.reason, "HR bestätigt es");
      assert.equal(record.door, setup.protocol ?? "connect");
    }
    assert.equal(g.c1.seen.length, 2);
    // The key is in headers alone.
    assert.ok(!JSON.stringify([page.watch.requests, await page.evaluate(() => [location.href, Object.entries(localStorage), Object.entries(sessionStorage), document.cookie])]).includes(g.keys.desk));
  });
}

test("a page of an origin that is not allowed cannot call, and says why", async (t) => {
  for (const setup of Object.values(protocols)) {
    const { g, origin, page, confirm } = await visit(t, { allowed: false });
    page.watch.expect(/blocked by CORS policy/);
    page.watch.expect(/Failed to load resource/);
    const { failure, answers } = await confirm(setup);
    assert.deepEqual(answers, []);
    assert.equal(failure.reason, "ORIGIN_REFUSED");
    assert.ok(failure.advice.includes(`add ${origin} to cors.allowed_origins`), failure.advice);
    assert.equal(failure.mayHaveActed, true, "the browser does not say that nothing was sent");
    assert.deepEqual(g.c1.seen, []);
    assert.ok((await g.preflights()).refused >= 1);
    assert.ok(g.records().every((r) => r.kind !== "intent" && r.kind !== "outcome"));
  }
});

test("an origin that is removed cannot call any more, even though the browser remembers that it may", async (t) => {
  const { g, origin, page, confirm, apps } = await visit(t);
  assert.ok((await confirm()).result);
  const sent = g.c1.seen.length;
  await g.configure((c) => { c.cors.allowed_origins = ["https://app.example.com"]; });
  page.watch.expect(/blocked by CORS policy/);
  page.watch.expect(/Failed to load resource/);
  for (const [call, acted] of [[confirm, true], [apps, false]]) {
    const { failure } = await call();
    assert.equal(failure.reason, "ORIGIN_REFUSED");
    assert.equal(failure.mayHaveActed, acted);
  }
  assert.equal(g.c1.seen.length, sent);
  assert.ok(g.records().some((r) => r.kind === "denied" && r.error === "ORIGIN_DENIED"));
  await g.configure((c) => { c.cors.allowed_origins.push(origin); });
  assert.equal((await apps()).result.length, 2);
});

test("reads go by GET with their message in the URL, the rest by POST", async (t) => {
  const { calls, apps, confirm } = await visit(t);
  const { result } = await apps();
  assert.equal(result.length, 2);
  assert.equal(typeof result[0].displayName, "string");
  assert.equal((await apps({ useBinaryFormat: true }, 3)).result.length, 3);
  await confirm();
  await apps({ protocol: "grpc-web" });
  const [json, binary, write, web] = calls();
  assert.deepEqual([json, binary, write, web].map((c) => c.method), ["GET", "GET", "POST", "POST"]);
  const query = new URL(json.url).searchParams;
  assert.equal(query.get("connect"), "v1");
  assert.deepEqual(JSON.parse(query.get("message")), { pageSize: 2 });
  assert.equal(new URL(binary.url).searchParams.get("encoding"), "proto");
  assert.equal(new URL(write.url).search, "");
});

test("the browser asks once for each method that goes by POST, and once for each URL of a GET", async (t) => {
  const { g, confirm, apps, preflights } = await visit(t);
  for (let i = 0; i < 3; i++) await confirm();
  assert.deepEqual(preflights().map((p) => new URL(p.url).pathname), [confirmPath]);
  for (let i = 0; i < 3; i++) await apps({}, 2);
  await apps({}, 3);
  assert.deepEqual(preflights().slice(1).map((p) => new URL(p.url).pathname), [appsPath, appsPath]);
  for (let i = 0; i < 3; i++) await apps({ protocol: "grpc-web" }, 2 + i);
  assert.equal(preflights().length, 4);
  assert.deepEqual(await g.preflights(), { allowed: 4, refused: 0 });
});

test("a script sees the headers of every answer", async (t) => {
  const limits = { caller: { rate: 1, per: "1h", burst: 2 } };
  const { g, apps, confirm } = await visit(t, { limits });
  await g.configure((c) => { c.teams[0].allow = [{ methods: ["c1.api.app.v1.Apps/*"] }]; });
  const sees = ({ answers: [answer] }, status, ...names) => {
    assert.equal(answer.status, status);
    for (const name of ["x-request-id", ...names]) assert.ok(answer.headers[name], `${status}: ${name} of ${JSON.stringify(answer.headers)}`);
    return answer.headers;
  };
  sees(await apps(), 200, "ratelimit", "ratelimit-policy");
  sees(await apps({ credential: "c1p_wrong" }), 401, "www-authenticate");
  sees(await confirm(), 403);
  sees(await apps(), 200, "ratelimit");
  const limited = await apps();
  assert.match(sees(limited, 429, "retry-after", "ratelimit", "ratelimit-policy")["retry-after"], /^\d+$/);
  assert.equal(limited.failure.reason, "RATE_LIMITED");
  assert.ok(limited.failure.retryAfterMs > 1000, String(limited.failure.retryAfterMs));
  assert.equal(limited.failure.metadata.rule, "caller");
});

test("each refusal in words", async (t) => {
  const { g, apps, confirm } = await visit(t, { callers: { desk: {}, both: {}, elsewhere: { team: "identity" } } });
  await g.configure((c) => { c.teams[0].allow = [{ methods: ["c1.api.app.v1.Apps/*"] }]; });
  assert.equal((await apps({ credential: "c1p_wrong" })).failure.title, "You are not signed in");
  assert.equal((await confirm()).failure.reason, "METHOD_DENIED");
  assert.equal((await confirm()).failure.title, "Your team may not do this");
  for (const setup of [{}, { protocol: "grpc-web" }]) {
    const { failure } = await apps({ ...setup, team: "identity" });
    assert.equal(failure.reason, "TEAM_DENIED");
    assert.ok(failure.requestId);
  }
  assert.deepEqual(g.c1.seen, []);
});

test("a read waits as RetryInfo says and is repeated; a write is not", async (t) => {
  const { g, page, apps, confirm, calls } = await visit(t);
  let failing = 2;
  g.c1.answer = () => (failing-- > 0 ? { status: 429, headers: { "retry-after": "1" }, body: "{}" } : undefined);
  const begun = Date.now();
  const { result, answers } = await apps({ retry: { attempts: 4 } });
  assert.equal(result.length, 2);
  assert.ok(answers.length >= 2 && answers[0].status === 429, JSON.stringify(answers));
  assert.ok(Date.now() - begun >= 1000, "it did not wait");
  const reads = calls().length;
  g.c1.answer = () => ({ status: 503 });
  const { failure } = await confirm({ retry: { attempts: 4 } });
  assert.equal(failure.reason, "OUTCOME_UNKNOWN");
  assert.equal(failure.mayHaveActed, true);
  assert.equal(calls().length, reads + 1);
  void page;
});

test("a page gives up, or runs out of time", async (t) => {
  const { g, apps, confirm } = await visit(t);
  g.c1.answer = () => ({ status: 200, body: "{}", delay: 3000 });
  const left = await apps({}, 2, { abortAfterMs: 100 });
  assert.equal(left.failure.reason, "ABORTED");
  assert.equal(left.failure.mayHaveActed, false);
  const late = await apps({}, 3, { timeoutMs: 200 });
  // The page's own clock, or the gateway's: a deadline is the caller's own doing, and has no ErrorInfo there.
  assert.match(late.failure.reason, /^(TIMED_OUT|DEADLINE_EXCEEDED|)$/);
  assert.equal(late.failure.code, "deadline_exceeded");
  void confirm;
});

test("the page's own policy, and a gateway that is gone", async (t) => {
  const { origin, allow } = await site(t);
  const g = await gateway(t, { more: { cors: { allowed_origins: [origin] } } });
  allow("'none'");
  const page = await open(t, `${origin}/`);
  page.watch.expect(/Content Security Policy|^CSP: connect-src/);
  page.watch.expect(/Content Security Policy/);
  await page.getByRole("heading", { name: "ready" }).waitFor();
  const ask = (p) => p.evaluate(([s]) => c1.apps(s, 2), [{ baseUrl: g.url, credential: g.keys.desk }]);
  const blocked = await ask(page);
  assert.equal(blocked.failure.reason, "BLOCKED_BY_PAGE");
  assert.match(blocked.failure.advice, /connect-src/);

  allow(g.url);
  const other = await open(t, `${origin}/`, { hosts: [g.url] });
  other.watch.expect(/ERR_CONNECTION_REFUSED/);
  await other.getByRole("heading", { name: "ready" }).waitFor();
  await g.stop();
  assert.equal((await ask(other)).failure.reason, "UNREACHABLE");
});

// The samples of docs/browser.md, run as they stand but for the gateway's address.
test("the samples of docs/browser.md", async (t) => {
  const documented = readFileSync(new URL("../../docs/browser.md", import.meta.url), "utf8");
  const samples = Object.fromEntries([...documented.matchAll(/^```ts (\S+)\n([\s\S]*?)^```$/gm)].map(([, name, text]) => [name, text]));
  const files = { "/index.html": '<!doctype html><link rel="icon" href="data:,"><script type="module" src="/main.js"></script><h1>docs</h1>' };
  const origin = await serve(t, files, {});
  const g = await gateway(t, { more: { cors: { allowed_origins: [origin] } } });
  const main = `${["client", "list", "confirm", "why", "headers", "patient"].map((n) => `import * as ${n} from "./${n}";`).join("\n")}
    Object.assign(globalThis, { docs: { client, list, confirm, why, headers, patient } });`;
  const texts = Object.entries(samples).map(([name, text]) => [name, text.replaceAll("https://c1proxy.example.com", g.url).replaceAll('"c1p_..."', JSON.stringify(g.keys.desk))]);
  files["/main.js"] = await bundle(t, { "main.ts": main, ...Object.fromEntries(texts) });
  const page = await open(t, `${origin}/`, { hosts: [g.url] });
  await until(() => page.evaluate(() => "docs" in globalThis), "the samples are loaded");
  const run = (work, arg) => page.evaluate(work, arg);

  await run((key) => docs.client.signIn(key), g.keys.desk);
  assert.equal(await run(() => docs.list.show()), "");
  assert.match(await run((f) => docs.headers.left(f.app_id), g.facts), /;r=\d+/);
  assert.equal((await run(() => docs.patient.search("pay", new AbortController().signal).then((r) => r.list.length))) > 0, true);
  const confirm = () => run((f) => docs.confirm.confirm(f.app_id, f.connector_id, f.sync_lifecycle_id, "HR confirmed it"), g.facts);
  assert.equal(await confirm(), "The sync is confirmed.");
  assert.match(await confirm(), /^C1 refused it\./);
  assert.equal(await run(() => docs.client.apps.list({ pageToken: "no such" }).then(() => "", (e) => docs.why.why(e).then((f) => f.code))), "invalid_argument");
});

test("a page follows the audit, and goes on after a reload", async (t) => {
  for (const setup of [{}, { protocol: "grpc-web" }]) {
    const { g, page, confirm, calls } = await visit(t);
    const following = page.evaluate(([s, p]) => c1.follow(s, p, 4), [{ baseUrl: g.url, credential: g.keys.desk, ...setup }, confirmPath.slice(1)]);
    await confirm({}, "first");
    await page.waitForFunction(() => document.title === "2 records");
    await g.configure((c) => { c.teams[0].limits.caller.burst = 9000; });
    const tails = () => calls().filter((c) => c.url.endsWith("/c1proxy.v1.AuditService/Tail"));
    await until(() => tails().length === 2, "the tail is resumed");
    await confirm({}, "second");
    const { result, failure } = await following;
    assert.equal(failure, undefined);
    assert.deepEqual(result.found.map((r) => [r.kind, r.caller, r.reason]), [
      ["intent", "desk", "first"], ["outcome", "desk", "first"], ["intent", "desk", "second"], ["outcome", "desk", "second"],
    ]);
    const order = result.found.map((r) => Number(r.seq));
    assert.deepEqual(order, [...new Set(order)].sort((a, b) => a - b));
    assert.ok(tails().every((c) => c.method === "POST"));
  }
});
