import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { RecordSchema } from "@c1proxy/client/gen/c1proxy/v1/audit_pb";
import { loadPins, removePin, savePin } from "./pin";
import { asLogged, differences, formatTime, parseRecord } from "./record";
import { encodeText, MalformedError, parseProof, parseVerifierKey } from "./text";
import { verifyProof } from "./verify";

// Made and checked by the gateway's own code: go test ./internal/audit -run TestVectors.
const vectors = JSON.parse(readFileSync("src/proof/testdata/proofs.json", "utf8")) as {
  key: string;
  records: string[];
  hashes: string[];
  heads: string[];
  proofs: number[][][];
};

function proofOf(size: number, index: number): string {
  const hashes = vectors.proofs[size - 1]![index]!.map((n) => `${vectors.hashes[n]}\n`).join("");
  const record = Buffer.from(vectors.records[index]!).toString("base64");
  return `c2sp.org/tlog-proof@v1\nextra ${record}\nindex ${index}\n${hashes}\n${vectors.heads[size - 1]}`;
}

const pin = await parseVerifierKey(vectors.key);

/** A generator of numbers below n, the same ones for the same seed. */
function random(seed: number): (n: number) => number {
  let state = seed >>> 0 || 1;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}

async function cause(text: string, key = vectors.key, shown?: Parameters<typeof verifyProof>[2]): Promise<string> {
  const verdict = await verifyProof(text, [await parseVerifierKey(key)], shown);
  return verdict.status === "verified" ? "verified" : verdict.cause;
}

/** Another key, with which a head can be signed anew. */
async function otherKey(name: string) {
  const pair = (await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"])) as CryptoKeyPair;
  const data = Buffer.concat([Buffer.of(1), Buffer.from(await crypto.subtle.exportKey("raw", pair.publicKey))]);
  const hash = Buffer.from(await crypto.subtle.digest("SHA-256", Buffer.concat([Buffer.from(`${name}\n`), data]))).subarray(0, 4);
  const sign = async (body: string, as = hash) => {
    const signature = Buffer.from(await crypto.subtle.sign("Ed25519", pair.privateKey, Buffer.from(body)));
    return `— ${name} ${Buffer.concat([as, signature]).toString("base64")}\n`;
  };
  return { text: `${name}+${hash.toString("hex")}+${data.toString("base64")}`, sign };
}

test("every proof of every tree of 1 to 70 records is verified", async () => {
  let checked = 0;
  for (let size = 1; size <= 70; size++) {
    for (let index = 0; index < size; index++) {
      const verdict = await verifyProof(proofOf(size, index), [pin]);
      assert.equal(verdict.status, "verified", `${index} of ${size}`);
      assert.ok(verdict.status === "verified" && verdict.index === BigInt(index) && verdict.size === BigInt(size));
      checked++;
    }
  }
  assert.equal(checked, 2485);
});

test("no proof passes for another place, size or record", async () => {
  for (let size = 1; size <= 70; size += 3) {
    for (let index = 0; index < size; index += 2) {
      const good = proofOf(size, index);
      for (const other of [index - 1, index + 1, size, 2 ** 31, index + 2 ** 32]) {
        if (other >= 0) assert.notEqual(await cause(good.replace(/^index \d+$/m, `index ${other}`)), "verified");
      }
      if (size > 1) {
        const record = Buffer.from(vectors.records[(index + 1) % size]!).toString("base64");
        assert.equal(await cause(good.replace(/^extra .*$/m, `extra ${record}`)), "not-included");
        const head = vectors.heads[size - 2]!;
        assert.equal(await cause(good.slice(0, good.indexOf("\n\n") + 2) + head), "not-included");
      }
      assert.equal(await cause(good.replace(/^(index .*)$/m, `$1\n${vectors.hashes[0]}`)), "not-included");
    }
  }
});

test("of thousands of changed texts none is verified", async (t) => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
  t.diagnostic(`SEED=${seed}`);
  const next = random(seed);
  const alphabet = "ABCabc019+/= \n—index\t\u0000é";
  const causes = new Map<string, number>();
  for (let round = 0; round < 6000; round++) {
    const size = 1 + next(70);
    const good = proofOf(size, next(size));
    const at = next(good.length);
    const c = alphabet[next(alphabet.length)]!;
    const lines = good.split("\n");
    const line = next(lines.length);
    const changed = [
      () => good.slice(0, at) + c + good.slice(at + 1),
      () => good.slice(0, at) + c + good.slice(at),
      () => good.slice(0, at) + good.slice(at + 1),
      () => good.slice(0, at),
      () => good.slice(at),
      () => good.slice(0, at) + (good[at + 1] ?? "") + good[at] + good.slice(at + 2),
      () => good.slice(0, at) + String.fromCharCode(good.charCodeAt(at) ^ (1 << next(7))) + good.slice(at + 1),
      () => lines.toSpliced(line, 1).join("\n"),
      () => lines.toSpliced(line, 0, lines[line]!).join("\n"),
      () => lines.toSpliced(line, 0, lines[next(lines.length)]!).join("\n"),
      () => good + c,
      () => good.replaceAll("\n", "\r\n"),
    ][next(12)]!();
    if (changed === good) continue;
    const found = await cause(changed);
    assert.notEqual(found, "verified", `SEED=${seed}\n${JSON.stringify(changed)}\nfor\n${JSON.stringify(good)}`);
    causes.set(found, (causes.get(found) ?? 0) + 1);
  }
  // The changes reach every check, not the parser alone.
  for (const each of ["malformed", "bad-signature", "wrong-key", "other-log", "not-included"]) assert.ok(causes.has(each), each);
});

test("what is not canonical base64 is refused", async () => {
  const good = proofOf(70, 3);
  const hash = vectors.hashes[vectors.proofs[69]![3]![0]!]!;
  const last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const loose = hash.slice(0, -2) + last[last.indexOf(hash.at(-2)!) ^ 1] + "=";
  assert.deepEqual(Buffer.from(loose, "base64"), Buffer.from(hash, "base64"), "the same bytes");
  assert.equal(await cause(good.replace(hash, loose)), "malformed");
  assert.equal(await cause(good.replace(hash, hash.slice(0, -1))), "malformed");
  assert.equal(await cause(good.replace(hash, ` ${hash}`)), "malformed");
});

test("a head by another key is told from a changed one, and from that of another log", async () => {
  const good = proofOf(70, 5);
  assert.equal(await cause(good, (await otherKey(pin.name)).text), "wrong-key");
  assert.equal(await cause(good, (await otherKey("another.example/log")).text), "other-log");

  // Whoever can make proofs with a key of his own gets nowhere, whatever he writes.
  const forger = await otherKey(pin.name);
  const [above, body] = [good.slice(0, good.indexOf("\n\n") + 2), vectors.heads[69]!.split("\n\n")[0] + "\n"];
  assert.equal(await cause(above + body + "\n" + (await forger.sign(body))), "wrong-key");
  const claimed = Buffer.from(pin.keyHash, "hex");
  assert.equal(await cause(above + body + "\n" + (await forger.sign(body, claimed))), "bad-signature");
  assert.equal(await cause(above + body + "\n" + (await forger.sign(body)), forger.text), "verified");
});

test("signatures of others beside the log's own do no harm and are no help", async () => {
  const good = proofOf(70, 5);
  const witness = await otherKey("witness.example");
  const body = vectors.heads[69]!.split("\n\n")[0] + "\n";
  const line = await witness.sign(body);
  assert.equal(await cause(good + line), "verified");
  assert.equal(await cause(good.slice(0, good.lastIndexOf("—")) + line), "wrong-key");
  assert.equal(await cause(good + good.slice(good.lastIndexOf("—"))), "malformed", "twice the same");
  assert.equal(await cause(good + line.repeat(100)), "malformed", "too many");
});

test("a key signs its own origin only", async () => {
  const key = await otherKey("one.example/log");
  const body = `two.example/log\n1\n${Buffer.alloc(32).toString("base64")}\n`;
  const text = `c2sp.org/tlog-proof@v1\nextra e30=\nindex 0\n\n${body}\n${await key.sign(body)}`;
  assert.equal(await cause(text, key.text), "other-log");
});

test("a verifier key that was not copied whole is refused", async () => {
  for (const bad of [
    "", "x", "+", "++", vectors.key.slice(1), vectors.key.slice(0, -1), vectors.key.replace("+", " "),
    vectors.key.replace(/^[^+]*/, "example.org/log"), vectors.key.replace(/\+(.)/, (_, c) => `+${c === "0" ? "1" : "0"}`),
    `PRIVATE+KEY+${vectors.key}`, `${vectors.key}\n${vectors.key}`,
  ]) {
    await assert.rejects(parseVerifierKey(bad), MalformedError, bad);
  }
  await assert.rejects(parseVerifierKey("PRIVATE+KEY+log+00000000+SECRETSECRET"), (error: Error) => !error.message.includes("SECRET"));
  assert.equal((await parseVerifierKey(`  ${vectors.key}\n`)).name, "example.com/log");
});

test("a proof without what it needs is malformed, and says what", async () => {
  for (const [text, what] of [
    ["", "begin"], ["c1proxy-consistency-proof@v1\nold eA==\n\nx", "begin"], ["c2sp.org/tlog-proof@v1\nindex 0\n\nx", "record"],
    ["c2sp.org/tlog-proof@v1\nextra e30=\n\nx", "index"], [proofOf(3, 1).replace("index 1", "index 01"), "index"],
    [proofOf(3, 1).replace("index 1", "index 9223372036854775808"), "index"], [proofOf(3, 1).trimEnd(), "end with"],
    [proofOf(3, 1) + "\ud800", "Unicode"],
  ] as const) {
    assert.throws(() => parseProof(text), (error: Error) => error instanceof MalformedError && error.message.includes(what), JSON.stringify(text));
  }
});

test("what is shown is held against what was proven, in every field", async () => {
  const index = vectors.records.findIndex((line) => line.includes('"request_id":"odd"'));
  const proven = parseRecord(encodeText(vectors.records[index]!));
  assert.equal(await cause(proofOf(70, index), vectors.key, proven), "verified");
  for (const name of Object.keys(proven)) {
    const verdict = await verifyProof(proofOf(70, index), [pin], { ...proven, [name]: "forged" });
    assert.ok(verdict.status === "not-verified" && verdict.cause === "record-differs", name);
    assert.deepEqual(verdict.fields, [name]);
    assert.deepEqual(verdict.record, proven, "shows what was proven");
  }
  const { reason: _, ...without } = proven;
  assert.equal(await cause(proofOf(70, index), vectors.key, without), "record-differs");
  assert.equal(await cause(proofOf(70, index), vectors.key, { ...proven, outcome: "ok" }), "record-differs");
});

test("a record as the API has it is the same record", () => {
  const index = vectors.records.findIndex((line) => line.includes('"kind":"outcome"'));
  const proven = parseRecord(encodeText(vectors.records[index]!));
  const [whole, fraction = ""] = (proven["time"] as string).slice(0, -1).split(".");
  const record = create(RecordSchema, {
    seq: BigInt(index), id: proven["id"] as string, kind: "outcome", requestId: proven["request_id"] as string, intent: proven["intent"] as string,
    team: "payments", procedure: "/c1.api.app.v1.Apps/Get", upstreamStatus: 200, attempts: [200], code: "ok", outcome: "ok",
    duration: { seconds: 0n, nanos: 1_500_000 }, time: { seconds: BigInt(Date.parse(`${whole}Z`) / 1000), nanos: Number(fraction.padEnd(9, "0")) },
  });
  assert.deepEqual(differences(asLogged(record), proven), []);
  assert.deepEqual(differences(asLogged({ ...record, attempts: [200, 200] }), proven), ["attempts"]);
  assert.deepEqual(differences(asLogged({ ...record, path: [{ $typeName: "c1proxy.v1.NamedValue", name: "app_id", value: "x" }] }), proven), ["path"]);
});

test("times have as many digits as they need", () => {
  assert.equal(formatTime({ seconds: 0n, nanos: 0 }), "1970-01-01T00:00:00Z");
  assert.equal(formatTime({ seconds: 1_700_000_000n, nanos: 120_000 }), "2023-11-14T22:13:20.00012Z");
});

test("a line that no gateway writes is refused, although JSON has it", () => {
  for (const line of [`{"seq":1,"seq":1}`, `{"seq": 1}`, `{"seq":1.0}`, `{"seq":9007199254740993}`, `[1]`, `null`, `"x"`, `{"reason":"\u2028"}`, `{"reason":"\\u00e9"}`, `\ufeff{}`]) {
    assert.throws(() => parseRecord(encodeText(line)), MalformedError, line);
  }
  assert.throws(() => parseRecord(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d)), MalformedError);
  for (const line of vectors.records) parseRecord(encodeText(line));
});

test("without a key, WebCrypto or Ed25519 nothing is verified, and the reason is said", async () => {
  const good = proofOf(70, 5);
  const none = await verifyProof(good, []);
  assert.ok(none.status === "cannot-verify" && none.cause === "no-pin");
  const real = Object.getOwnPropertyDescriptor(globalThis, "crypto")!;
  const fake = (subtle: unknown) => Object.defineProperty(globalThis, "crypto", { configurable: true, value: { subtle } });
  try {
    fake(undefined);
    const verdict = await verifyProof(good, [pin]);
    assert.ok(verdict.status === "cannot-verify" && verdict.cause === "no-webcrypto");
    const { subtle } = real.get!.call(globalThis) as Crypto;
    const digest = subtle.digest.bind(subtle);
    for (const importKey of [() => Promise.reject(new DOMException("no", "NotSupportedError")), () => Promise.resolve({})]) {
      fake({ digest, importKey, verify: () => Promise.resolve(false) });
      const other = await verifyProof(good, [pin]);
      assert.ok(other.status === "cannot-verify" && other.cause === "no-ed25519");
    }
  } finally {
    Object.defineProperty(globalThis, "crypto", real);
  }
});

test("pins live as long as the tab, unless they are to be remembered", async () => {
  const make = () => {
    const items = new Map<string, string>();
    return {
      getItem: (k: string) => items.get(k) ?? null, setItem: (k: string, v: string) => void items.set(k, v), removeItem: (k: string) => void items.delete(k),
      text: () => [...items.values()].join(),
    };
  };
  const [session, local] = [make(), make()];
  Object.assign(globalThis, { sessionStorage: session, localStorage: local });
  const other = await parseVerifierKey((await otherKey(pin.name)).text);
  savePin(pin, false);
  assert.equal(local.text(), "");
  assert.deepEqual((await loadPins()).map((p) => [p.text, p.remembered]), [[pin.text, false]]);
  savePin(other, true);
  assert.deepEqual((await loadPins()).map((p) => [p.text, p.remembered]), [[other.text, true]], "one for each log");
  assert.equal(session.text(), "");
  local.setItem("c1proxy.audit.pins", "{");
  assert.deepEqual(await loadPins(), []);
  savePin(pin, true);
  removePin(pin.name);
  assert.deepEqual(await loadPins(), []);
  assert.equal(local.text() + session.text(), "");
  for (const name of ["sessionStorage", "localStorage"]) {
    Object.defineProperty(globalThis, name, { configurable: true, get: () => { throw new DOMException("denied", "SecurityError"); } });
  }
  savePin(pin, true);
  assert.deepEqual((await loadPins()).map((p) => [p.text, p.remembered]), [[pin.text, false]], "a browser that keeps nothing");
  removePin(pin.name);
  assert.deepEqual(await loadPins(), []);
});
