import { concat } from "./text";

/** The hash of a leaf: RFC 6962, Section 2.1. */
export async function leafHash(record: Uint8Array): Promise<Uint8Array> {
  return sha256(concat(Uint8Array.of(0), record));
}

async function nodeHash(left: Uint8Array, right: Uint8Array): Promise<Uint8Array> {
  return sha256(concat(Uint8Array.of(1), left, right));
}

async function sha256(data: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data));
}

/**
 * The root of a tree of that size in which the leaf stands at index, by the
 * hashes beside its way up: RFC 6962, Section 2.1.1. It is undefined if a way
 * from there has another number of hashes.
 */
export async function rootOf(leaf: Uint8Array, index: bigint, size: bigint, hashes: readonly Uint8Array[]): Promise<Uint8Array | undefined> {
  if (index < 0n || index >= size) return undefined;
  let node = index;
  let last = size - 1n;
  let hash = leaf;
  for (const sibling of hashes) {
    if (last === 0n) return undefined;
    if (node % 2n === 1n || node === last) {
      hash = await nodeHash(sibling, hash);
      // The last of a row that has no sibling is its own parent.
      while (node % 2n === 0n && node !== 0n) {
        node /= 2n;
        last /= 2n;
      }
    } else {
      hash = await nodeHash(hash, sibling);
    }
    node /= 2n;
    last /= 2n;
  }
  return last === 0n ? hash : undefined;
}
