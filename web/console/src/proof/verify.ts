import { leafHash, rootOf } from "./merkle";
import { differences, parseRecord, type ProvenRecord } from "./record";
import { concat, hex, type InclusionProof, MalformedError, parseProof, type VerifierKey } from "./text";

/** What came of looking at a proof. */
export type Verdict = Verified | NotVerified | CannotVerify;

/** The record is in the log, unchanged, as the pinned key says. */
export interface Verified {
  readonly status: "verified";
  readonly record: ProvenRecord;
  readonly log: string;
  readonly index: bigint;
  /** How many records the signed head covers. */
  readonly size: bigint;
}

/** The proof proves nothing. */
export interface NotVerified {
  readonly status: "not-verified";
  readonly cause: "malformed" | "other-log" | "wrong-key" | "bad-signature" | "not-included" | "record-differs";
  readonly message: string;
  /** What was proven, if the proof holds but not for the record that is shown. */
  readonly record?: ProvenRecord;
  /** The fields in which what is shown differs from what was proven. */
  readonly fields?: readonly string[];
}

/** The proof could not be looked at here. It says nothing about the record. */
export interface CannotVerify {
  readonly status: "cannot-verify";
  readonly cause: "no-webcrypto" | "no-ed25519" | "no-pin";
  readonly message: string;
}

/**
 * Says why this browser cannot verify, if it cannot. The check is made with a key
 * and a signature of RFC 8032, so that a browser that only claims to know Ed25519
 * is found too.
 */
export async function incapable(): Promise<CannotVerify | undefined> {
  if (globalThis.crypto?.subtle === undefined) {
    const why = globalThis.isSecureContext === false
      ? "this page was not loaded over HTTPS, and browsers offer cryptography (WebCrypto) to secure pages alone. Open the console over HTTPS, or from the machine itself as localhost."
      : "this browser has no WebCrypto. Use a current browser.";
    return { status: "cannot-verify", cause: "no-webcrypto", message: `Nothing was verified: ${why}` };
  }
  try {
    const key = fromHex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    const signature = fromHex(
      "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    );
    if (await verifyEd25519(key, signature, new Uint8Array())) return undefined;
  } catch {
    // Said below.
  }
  return {
    status: "cannot-verify",
    cause: "no-ed25519",
    message: "Nothing was verified: this browser cannot check Ed25519 signatures. Current versions of Chromium, Firefox and Safari can; `proxy audit check-proof` can anywhere.",
  };
}

/**
 * Verifies the text of a proof by the keys that the user has pinned, of which that
 * of the log's name counts. With shown it also checks that the record in the proof
 * is the one that is shown, in every field.
 */
export async function verifyProof(text: string, pins: readonly VerifierKey[], shown?: ProvenRecord): Promise<Verdict> {
  const unable = await incapable();
  if (unable) return unable;
  if (pins.length === 0) {
    return { status: "cannot-verify", cause: "no-pin", message: "Nothing was verified: no verifier key is pinned." };
  }
  try {
    return await verifyParsed(parseProof(text), pins, shown);
  } catch (error) {
    if (error instanceof MalformedError) return refuse("malformed", error.message);
    throw error;
  }
}

async function verifyParsed(proof: InclusionProof, pins: readonly VerifierKey[], shown?: ProvenRecord): Promise<Verdict> {
  const { checkpoint, index } = proof;
  const pin = pins.find((key) => key.name === checkpoint.origin);
  if (!pin) {
    const known = pins.map((key) => key.name).join(", ");
    return refuse("other-log", `The proof is of the log ${checkpoint.origin}; the pinned key is of ${known}. Each replica has a log and a key of its own: pin the key of this one too.`);
  }
  const named = checkpoint.signatures.filter((signature) => signature.name === pin.name);
  const own = named.filter((signature) => signature.keyHash === pin.keyHash);
  if (own.length > 1) return refuse("malformed", "The checkpoint repeats a signature.");
  const signature = own[0];
  if (!signature) {
    const by = named.map((s) => s.keyHash).join(", ") || "nobody of that name";
    return refuse("wrong-key", `The log’s head is not signed by the pinned key ${pin.keyHash} of ${pin.name}, but by ${by}.`);
  }
  if (!(await verifyEd25519(pin.key, signature.bytes, checkpoint.signed))) {
    return refuse("bad-signature", `The signature of the log’s head is not one by the pinned key ${pin.keyHash} of ${pin.name}: the head was changed, or made by someone else.`);
  }
  if (index >= checkpoint.size) {
    return refuse("not-included", `The signed head covers ${checkpoint.size} records and not record ${index}.`);
  }
  const root = await rootOf(await leafHash(proof.record), index, checkpoint.size, proof.hashes);
  if (!root || hex(root) !== hex(checkpoint.root)) {
    return refuse("not-included", `The record in the proof is not record ${index} of the log: it, or the proof, was changed.`);
  }
  const record = parseRecord(proof.record);
  if (BigInt(typeof record["seq"] === "number" ? record["seq"] : -1) !== index) {
    return refuse("not-included", `The log has this as record ${index}, but it says of itself that it is ${JSON.stringify(record["seq"])}.`);
  }
  const fields = shown ? differences(shown, record) : [];
  if (fields.length > 0) {
    return {
      ...refuse("record-differs", `A record is proven, but it is not the one that was shown: they differ in ${fields.join(", ")}.`),
      record,
      fields,
    };
  }
  return { status: "verified", record, log: checkpoint.origin, index, size: checkpoint.size };
}

function refuse(cause: NotVerified["cause"], message: string): NotVerified {
  return { status: "not-verified", cause, message };
}

async function verifyEd25519(key: Uint8Array, signature: Uint8Array, message: Uint8Array): Promise<boolean> {
  const imported = await crypto.subtle.importKey("raw", concat(key), { name: "Ed25519" }, false, ["verify"]);
  return crypto.subtle.verify({ name: "Ed25519" }, imported, concat(signature), concat(message));
}

function fromHex(digits: string): Uint8Array {
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}
