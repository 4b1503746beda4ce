import { parseVerifierKey, type VerifierKey } from "./text";

/**
 * The verifier keys that the user has pinned, one for each log. They are public.
 * They last as long as the tab; those that the user wants remembered are kept on
 * the device.
 */
export interface Pin extends VerifierKey {
  /** Whether it is kept on the device. */
  readonly remembered: boolean;
}

const item = "c1proxy.audit.pins";

/** What a tab has pinned whose browser keeps nothing. */
let unkept: string[] = [];

/** All pins. What is stored and is no verifier key is passed over. */
export async function loadPins(): Promise<Pin[]> {
  const pins = new Map<string, Pin>();
  const stored = [...read("local").map((text) => [text, true] as const), ...[...read("session"), ...unkept].map((text) => [text, false] as const)];
  for (const [text, remembered] of stored) {
    try {
      const key = await parseVerifierKey(text);
      pins.set(key.name, { ...key, remembered });
    } catch {
      // Not ours, or of an older version.
    }
  }
  return [...pins.values()];
}

/** Pins a key in place of any other of the same log. */
export function savePin(key: VerifierKey, remember: boolean): void {
  removePin(key.name);
  const kind = remember ? "local" : "session";
  if (!write(kind, [...read(kind), key.text])) unkept.push(key.text);
}

/** Forgets the key of a log. */
export function removePin(name: string): void {
  const others = (texts: string[]) => texts.filter((text) => !text.startsWith(`${name}+`));
  write("local", others(read("local")));
  write("session", others(read("session")));
  unkept = others(unkept);
}

type Kind = "local" | "session";

// A browser may refuse its storage altogether: the property itself throws then.
function storage(kind: Kind): Storage {
  return kind === "local" ? localStorage : sessionStorage;
}

function read(kind: Kind): string[] {
  try {
    const texts: unknown = JSON.parse(storage(kind).getItem(item) ?? "[]");
    return Array.isArray(texts) ? texts.filter((text) => typeof text === "string") : [];
  } catch {
    return [];
  }
}

function write(kind: Kind, texts: string[]): boolean {
  try {
    if (texts.length > 0) storage(kind).setItem(item, JSON.stringify(texts));
    else storage(kind).removeItem(item);
    return true;
  } catch {
    return false;
  }
}
