import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type AuditService, QueryResponseSchema, RecordSchema, type TailRequestSchema, type TailResponse, TailResponseSchema } from "@c1proxy/client/gen/c1proxy/v1/audit_pb";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { Feed, type FeedState, mostRows } from "./audit-feed";
import { badTime, filterOf, readWanted, takesNew } from "./audit-filter";

const record = (seq: number) => create(RecordSchema, { seq: BigInt(seq), id: `id-${seq}` });
const tailed = (next: number, seqs: number[], log = "one") => create(TailResponseSchema, { next: BigInt(next), records: seqs.map(record), log, allTeams: true });
const page = (seqs: number[], nextPageToken = "", log = "one") => create(QueryResponseSchema, { records: seqs.map(record), nextPageToken, log });

/** A service that answers as the test says. */
function service(answers: {
  query?: (token: string) => unknown;
  tail: ((from: bigint | undefined, signal: AbortSignal) => AsyncIterable<TailResponse>)[];
}) {
  const tails: (bigint | undefined)[] = [];
  return {
    tails,
    client: {
      query: async (request: { pageToken?: string }) => {
        const answer = answers.query?.(request.pageToken ?? "") ?? page([]);
        if (answer instanceof Error) throw answer;
        return answer;
      },
      tail: (request: MessageInitShape<typeof TailRequestSchema>, options: { signal: AbortSignal }) => {
        tails.push(request.from);
        return answers.tail[Math.min(tails.length, answers.tail.length) - 1]!(request.from, options.signal);
      },
    } as unknown as Client<typeof AuditService>,
  };
}

async function* stays(signal: AbortSignal, ...answers: TailResponse[]) {
  yield* answers;
  await new Promise((_, reject) => signal.addEventListener("abort", () => reject(new ConnectError("given up", Code.Canceled))));
}

async function* breaks(error: unknown, ...answers: TailResponse[]) {
  yield* answers;
  if (error) throw error;
}

async function until(feed: Feed, holds: (state: FeedState) => boolean): Promise<FeedState> {
  for (const end = Date.now() + 5000; !holds(feed.state); ) {
    if (Date.now() > end) throw new Error(`in vain: ${JSON.stringify(feed.state, (_, v: unknown) => (typeof v === "bigint" ? String(v) : v))}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return feed.state;
}
const seqs = (state: FeedState) => state.rows?.map((row) => Number(row.seq));

test("a page and the tail make one list, in order, none twice", async (t) => {
  const { client } = service({ query: () => page([5, 4, 3]), tail: [(_, signal) => stays(signal, tailed(5, []), tailed(7, [5, 6]), tailed(9, [7, 8]))] });
  const feed = new Feed(client, {}, () => {});
  t.after(() => feed.stop());
  feed.start(true);
  const state = await until(feed, (s) => s.rows?.length === 6 && !s.loading);
  assert.deepEqual(seqs(state), [8, 7, 6, 5, 4, 3]);
  assert.equal(state.live.kind, "live");
  assert.ok(state.allTeams && state.log === "one");
});

test("a tail that breaks off is resumed where it was, and says that it waits", async (t) => {
  const seen: string[] = [];
  const { client, tails } = service({
    tail: [() => breaks(new ConnectError("gone", Code.Unavailable), tailed(3, [2])), () => breaks(new ConnectError("not yet", Code.Unavailable)), (_, signal) => stays(signal, tailed(5, [3, 4]))],
  });
  const feed = new Feed(client, {}, (state) => seen.push(state.live.kind));
  t.after(() => feed.stop());
  feed.start(true);
  const state = await until(feed, (s) => s.rows?.length === 3 && s.live.kind === "live");
  assert.deepEqual(seqs(state), [4, 3, 2]);
  assert.deepEqual(tails, [undefined, 3n, 3n]);
  assert.ok(seen.includes("waiting") && seen.includes("connecting"));
});

test("a tail that the gateway ends is resumed too", async (t) => {
  const { client, tails } = service({ tail: [() => breaks(undefined, tailed(3, [])), (_, signal) => stays(signal, tailed(3, []))] });
  const feed = new Feed(client, {}, () => {});
  t.after(() => feed.stop());
  feed.start(true);
  await until(feed, (s) => tails.length === 2 && s.live.kind === "live");
  assert.deepEqual(tails, [undefined, 3n]);
});

test("a tail that is refused is not tried again by itself", async (t) => {
  for (const code of [Code.PermissionDenied, Code.Unauthenticated, Code.InvalidArgument]) {
    const { client, tails } = service({ tail: [() => breaks(new ConnectError("no", code)), (_, signal) => stays(signal, tailed(1, []))] });
    const feed = new Feed(client, {}, () => {});
    t.after(() => feed.stop());
    feed.start(true);
    await until(feed, (s) => s.live.kind === "refused");
    await new Promise((resolve) => setTimeout(resolve, 900));
    assert.equal(tails.length, 1);
    feed.resume();
    await until(feed, (s) => s.live.kind === "live");
  }
});

test("a tail that was begun with an expired token goes on if the sign-in holds, and is not asked for without end", async (t) => {
  const expired = () => breaks(new ConnectError("expired", Code.Unauthenticated));
  const feedOf = (tail: Parameters<typeof service>[0]["tail"], holds = true) => {
    const { client, tails } = service({ tail });
    const renewals: boolean[] = [];
    const feed = new Feed(client, {}, () => {}, async () => {
      renewals.push(holds);
      if (!holds) throw new ConnectError("signed out", Code.Unauthenticated);
    });
    t.after(() => feed.stop());
    feed.start(true);
    return { feed, tails, renewals };
  };
  const renewed = feedOf([expired, () => breaks(new ConnectError("expired", Code.Unauthenticated), tailed(3, [2])), expired, (_, signal) => stays(signal, tailed(4, [3]))]);
  const state = await until(renewed.feed, (s) => s.rows?.length === 2);
  assert.equal(state.live.kind, "live");
  assert.deepEqual(renewed.tails, [undefined, undefined, 3n, 3n]);
  assert.equal(renewed.renewals.length, 2);

  const refused = feedOf([expired]);
  await until(refused.feed, (s) => s.live.kind === "refused");
  assert.deepEqual([refused.tails.length, refused.renewals.length], [2, 1]);
  const over = feedOf([expired], false);
  await until(over.feed, (s) => s.live.kind === "refused");
  assert.deepEqual([over.tails.length, over.renewals.length], [1, 1]);
});

test("a tail that is told to wait longer than timers can waits, and is asked for once", async (t) => {
  const { client, tails } = service({ tail: [() => breaks(new ConnectError("busy", Code.Unavailable, { "Retry-After": "9999999999" }))] });
  const feed = new Feed(client, {}, () => {});
  t.after(() => feed.stop());
  feed.start(true);
  await until(feed, (s) => s.live.kind === "waiting");
  await new Promise((resolve) => setTimeout(resolve, 60));
  assert.deepEqual([tails.length, feed.state.live.kind], [1, "waiting"]);
});

test("paused, it takes nothing; resumed, it goes on where it was", async (t) => {
  const { client, tails } = service({ tail: [(_, signal) => stays(signal, tailed(3, [2])), (_, signal) => stays(signal, tailed(4, [3]))] });
  const feed = new Feed(client, {}, () => {});
  t.after(() => feed.stop());
  feed.start(true);
  await until(feed, (s) => s.rows?.length === 1);
  feed.pause();
  assert.equal(feed.state.live.kind, "paused");
  feed.resume();
  await until(feed, (s) => s.rows?.length === 2);
  assert.deepEqual(tails, [undefined, 3n]);
});

test("the tail keeps no more than its bound, and says so", async (t) => {
  const all = Array.from({ length: mostRows + 50 }, (_, i) => i);
  const { client } = service({ query: () => page([], "older"), tail: [(_, signal) => stays(signal, tailed(500, all.slice(0, 500)), tailed(all.length, all.slice(500)))] });
  const feed = new Feed(client, {}, () => {});
  t.after(() => feed.stop());
  feed.start(true);
  const state = await until(feed, (s) => s.dropped);
  assert.equal(state.rows!.length, mostRows);
  assert.equal(state.rows![0]!.seq, BigInt(all.length - 1));
  assert.equal(state.older, "", "a page of before would leave a hole");
  assert.equal(state.arrived, all.length);
});

test("older pages are added below, and pause the tail", async (t) => {
  const { client } = service({ query: (token) => (token === "" ? page([9, 8], "p2") : page([7, 6])), tail: [(_, signal) => stays(signal, tailed(10, []))] });
  const feed = new Feed(client, {}, () => {});
  t.after(() => feed.stop());
  feed.start(true);
  await until(feed, (s) => s.older === "p2" && s.live.kind === "live");
  await feed.loadOlder();
  assert.deepEqual(seqs(feed.state), [9, 8, 7, 6]);
  assert.equal(feed.state.older, "");
  assert.equal(feed.state.live.kind, "paused");
});

test("what could not be had is said, and keeps what is there", async (t) => {
  let fails = false;
  const { client } = service({ query: () => (fails ? new ConnectError("no", Code.Unavailable) : page([9], "p2")), tail: [] });
  const feed = new Feed(client, {}, () => {});
  t.after(() => feed.stop());
  feed.start(false);
  await until(feed, (s) => s.older === "p2");
  assert.equal(feed.state.live.kind, "off");
  fails = true;
  await feed.loadOlder();
  assert.equal(feed.state.olderFailure?.codeName, "unavailable");
  assert.deepEqual([seqs(feed.state), feed.state.older], [[9], "p2"]);
});

test("another replica's log begins the list anew", async (t) => {
  let log = "one";
  const { client, tails } = service({
    query: () => page(log === "one" ? [9, 8] : [2, 1], "", log),
    tail: [() => breaks(new ConnectError("gone", Code.Unavailable), tailed(10, [])), (_, signal) => ((log = "two"), stays(signal, tailed(4, [3], "two")))],
  });
  const feed = new Feed(client, {}, () => {});
  t.after(() => feed.stop());
  feed.start(true);
  const state = await until(feed, (s) => s.log === "two" && s.rows?.length === 3 && s.live.kind === "live");
  assert.deepEqual(seqs(state), [3, 2, 1]);
  assert.ok(state.moved);
  assert.deepEqual(tails, [undefined, 10n, undefined], "a number is of one log alone");
});

test("a place that is gone, or of another log, is not resumed at", async (t) => {
  const { client, tails } = service({
    query: () => page([40]),
    tail: [() => breaks(new ConnectError("gone", Code.Unavailable), tailed(10, [])), () => breaks(new ConnectError("removed", Code.OutOfRange)), (_, signal) => stays(signal, tailed(42, [41]))],
  });
  const feed = new Feed(client, {}, () => {});
  t.after(() => feed.stop());
  feed.start(true);
  const state = await until(feed, (s) => s.rows?.length === 2 && s.live.kind === "live");
  assert.deepEqual(seqs(state), [41, 40]);
  assert.deepEqual(tails, [undefined, 10n, undefined]);
});

test("where replicas answer in turn, their logs are not mixed", async (t) => {
  let asked = 0;
  const { client } = service({ query: () => (++asked % 3 === 0 ? page([9], "", "one") : page([77], "", "two")), tail: [(_, signal) => stays(signal, tailed(10, []))] });
  const feed = new Feed(client, {}, () => {});
  t.after(() => feed.stop());
  feed.resume();
  await until(feed, (s) => s.live.kind === "live");
  await feed.reload();
  assert.deepEqual(seqs(feed.state), [9]);

  const { client: never } = service({ query: () => page([77], "", "two"), tail: [(_, signal) => stays(signal, tailed(10, [9]))] });
  const other = new Feed(never, {}, () => {});
  t.after(() => other.stop());
  other.resume();
  await until(other, (s) => s.rows?.length === 1);
  await other.reload();
  assert.deepEqual(seqs(other.state), [9]);
  assert.match(other.state.failure!.message, /two answers in turn with one/);
});

test("the address says the filter", () => {
  const now = Date.parse("2026-01-31T12:00:00Z");
  const of = (query: string) => filterOf(readWanted(new URLSearchParams(query)), now);
  assert.deepEqual(of("request_id=abc&kind=denied&value=app_id=a=b&method=/c1.X/Y"), {
    team: "", caller: "", method: "c1.X/Y", notMethod: "", outcome: "", kind: "denied", requestId: "abc", intent: "", error: "", values: [{ name: "app_id", value: "a=b" }],
  });
  assert.deepEqual(of("value=plain").values, [{ name: "", value: "plain" }]);
  assert.equal(of("last=1h").since?.seconds, BigInt(now / 1000 - 3600));
  // All but calls to c1proxy itself, unless those are wanted or asked for by name.
  for (const query of ["", "kind=denied&caller=desk", "kind=event"]) assert.equal(of(query).notMethod, "c1proxy.**/*", query);
  for (const query of ["calls=all", "request_id=x", "intent=x", "method=GatewayService/*"]) assert.equal(of(query).notMethod, "", query);
  assert.equal(of("calls=all&method=A/B").method, "A/B");
  const span = of("from=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z");
  assert.deepEqual([span.since?.seconds, span.until?.seconds], [1767225600n, 1767312000n]);
  const bad = (query: string) => badTime(readWanted(new URLSearchParams(query)));
  assert.match(bad("from=yesterday")!, /“yesterday” is no time/);
  assert.match(bad("last=2h")!, /15m, 1h/);
  assert.match(bad("last=constructor")!, /15m, 1h/);
  assert.match(bad("from=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z")!, /before/);
  assert.equal(bad("from=2026-01-01T00:00:00Z"), undefined);
  assert.ok(!takesNew(readWanted(new URLSearchParams("until=2026-01-01T00:00:00Z")), now));
  assert.ok(takesNew(readWanted(new URLSearchParams("")), now));
});
