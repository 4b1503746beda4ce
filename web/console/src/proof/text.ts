/** What a text does not hold to, so that nothing can be proved by it. */
export class MalformedError extends Error {
  override name = "MalformedError";
}

/** A proof that one record is in a log: a C2SP tlog-proof that holds the record's line. */
export interface InclusionProof {
  readonly index: bigint;
  /** The record's line, of which the leaf's hash is made. */
  readonly record: Uint8Array;
  /** From the leaf's sibling up. */
  readonly hashes: readonly Uint8Array[];
  readonly checkpoint: Checkpoint;
}

/** A signed head of a log: a C2SP tlog-checkpoint. */
export interface Checkpoint {
  readonly origin: string;
  /** How many records it covers. */
  readonly size: bigint;
  readonly root: Uint8Array;
  /** The bytes that are signed. */
  readonly signed: Uint8Array;
  readonly signatures: readonly Signature[];
}

/** One line of signature of a C2SP signed note. */
export interface Signature {
  readonly name: string;
  /** Eight hex digits that name the key. */
  readonly keyHash: string;
  readonly bytes: Uint8Array;
}

/** The public half of a log's key, as "name+hash+key". */
export interface VerifierKey {
  readonly text: string;
  /** The name of the log, which is the origin of its checkpoints. */
  readonly name: string;
  readonly keyHash: string;
  /** 32 bytes of Ed25519. */
  readonly key: Uint8Array;
}

const proofHead = "c2sp.org/tlog-proof@v1";
const hashSize = 32;
const maxSignatures = 100;
const maxInt63 = (1n << 63n) - 1n;
const algorithmEd25519 = 1;

/** Reads the text that `proxy audit prove` prints. It takes no other form of the same proof. */
export function parseProof(text: string): InclusionProof {
  const end = text.indexOf("\n\n");
  const [head, extra, index, ...hashes] = text.slice(0, Math.max(end, 0)).split("\n");
  if (head !== proofHead) throw new MalformedError(`The proof does not begin with the line ${proofHead}.`);
  if (!extra?.startsWith("extra ")) throw new MalformedError("The proof holds no record: its second line must begin with “extra ”.");
  if (!index?.startsWith("index ")) throw new MalformedError("The proof has no index: its third line must begin with “index ”.");
  return {
    record: decodeBase64(extra.slice("extra ".length), "The record of the proof"),
    index: parseCount(index.slice("index ".length), "The index of the proof"),
    hashes: hashes.map((line, i) => decodeHash(line, `Hash ${i + 1} of the proof`)),
    checkpoint: parseCheckpoint(text.slice(end + 2)),
  };
}

/** Reads a checkpoint and takes its signatures apart. It checks none of them. */
export function parseCheckpoint(text: string): Checkpoint {
  const bytes = encodeText(text);
  if (/[\u0000-\u0009\u000b-\u001f]/.test(text)) throw new MalformedError("The checkpoint holds a control character.");
  const end = text.lastIndexOf("\n\n");
  if (end < 0) throw new MalformedError("The checkpoint has no signature.");
  const body = text.slice(0, end + 1);
  const [origin, size, root] = body.split("\n");
  if (!origin || size === undefined || root === undefined || body.split("\n").length < 4) {
    throw new MalformedError("The checkpoint has not its three lines: name, size and root of the log.");
  }
  const lines = text.slice(end + 2).split("\n");
  if (lines.pop() !== "" || lines.length === 0) throw new MalformedError("The checkpoint does not end with a line of signature.");
  if (lines.length > maxSignatures) throw new MalformedError(`The checkpoint has more than ${maxSignatures} signatures.`);
  return {
    origin,
    size: parseCount(size, "The size in the checkpoint"),
    root: decodeHash(root, "The root in the checkpoint"),
    signed: bytes.slice(0, encodeText(body).length),
    signatures: lines.map(parseSignature),
  };
}

function parseSignature(line: string): Signature {
  const parts = line.split(" ");
  const [dash, name, base64] = parts;
  if (parts.length !== 3 || dash !== "—" || !isName(name) || !base64) {
    throw new MalformedError("A line of signature is not “— name signature”.");
  }
  const bytes = decodeBase64(base64, "A signature of the checkpoint");
  if (bytes.length < 5) throw new MalformedError("A signature of the checkpoint is too short.");
  return { name, keyHash: hex(bytes.slice(0, 4)), bytes: bytes.slice(4) };
}

/**
 * Reads a verifier key, and checks that its hash is of its name and key, so that
 * a slip of the pen does not pass. Space around it is dropped.
 */
export async function parseVerifierKey(text: string): Promise<VerifierKey> {
  const trimmed = text.trim();
  if (trimmed.startsWith("PRIVATE+KEY+")) {
    throw new MalformedError("This is the log’s private key. Whoever has it can sign anything: do not paste it anywhere. The verifier key is needed.");
  }
  const first = trimmed.indexOf("+");
  const second = trimmed.indexOf("+", first + 1);
  const name = trimmed.slice(0, first);
  const keyHash = trimmed.slice(first + 1, second);
  if (first < 0 || second < 0 || !isName(name) || !/^[0-9a-f]{8}$/.test(keyHash)) {
    throw new MalformedError("A verifier key is one line “name+hash+key”, such as proxy logs at its start as audit_key.");
  }
  const data = decodeBase64(trimmed.slice(second + 1), "The key");
  const digest = await crypto.subtle.digest("SHA-256", concat(encodeText(`${name}\n`), data));
  if (hex(new Uint8Array(digest).slice(0, 4)) !== keyHash) {
    throw new MalformedError("The hash in the verifier key is not that of its name and key: it was not copied whole, or was changed.");
  }
  if (data[0] !== algorithmEd25519 || data.length !== 1 + 32) throw new MalformedError("The verifier key is not one of Ed25519.");
  return { text: trimmed, name, keyHash, key: data.slice(1) };
}

/** Names have no space and no plus, as in sumdb/note. */
function isName(name: string | undefined): name is string {
  return name !== undefined && name !== "" && !/[\s\u0085+]/u.test(name);
}

/** Reads a whole number in its shortest form, from 0 to 2^63 - 1. */
function parseCount(digits: string, what: string): bigint {
  const n = /^(0|[1-9][0-9]{0,18})$/.test(digits) ? BigInt(digits) : -1n;
  if (n < 0n || n > maxInt63) throw new MalformedError(`${what} is no number.`);
  return n;
}

function decodeHash(base64: string, what: string): Uint8Array {
  const hash = decodeBase64(base64, what);
  if (hash.length !== hashSize) throw new MalformedError(`${what} has not ${hashSize} bytes.`);
  return hash;
}

/** Decodes standard base64 in its canonical form, which each sequence of bytes has one of. */
export function decodeBase64(base64: string, what: string): Uint8Array {
  let binary = "";
  try {
    binary = atob(base64);
  } catch {
    throw new MalformedError(`${what} is not base64.`);
  }
  if (btoa(binary) !== base64) throw new MalformedError(`${what} is not base64 in its canonical form.`);
  return Uint8Array.from(binary, (c) => c.charCodeAt(0));
}

/** Encodes as UTF-8 what can be: half a surrogate pair cannot. */
export function encodeText(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  if (new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes) !== text) throw new MalformedError("The text is not Unicode.");
  return bytes;
}

/** Puts bytes one after another. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Lower-case hex digits. */
export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}
