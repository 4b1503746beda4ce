import { useEffect, useState } from "preact/hooks";

// What is kept for as long as the tab lives, and no longer. A browser that keeps
// nothing (storage switched off) costs the user a sign-in at each load.

/** Reads what was kept under a name; undefined if nothing was, or it does not read. */
export function recall<T>(name: string): T | undefined {
  try {
    const text = sessionStorage.getItem(`c1proxy.${name}`);
    return text === null ? undefined : (JSON.parse(text) as T);
  } catch {
    return undefined;
  }
}

/** Keeps a value under a name; undefined forgets it. */
export function keep(name: string, value: unknown): void {
  try {
    if (value === undefined) sessionStorage.removeItem(`c1proxy.${name}`);
    else sessionStorage.setItem(`c1proxy.${name}`, JSON.stringify(value));
  } catch {
    // Without storage it lives in memory alone.
  }
}

/** Forgets all that was kept for who was signed in; preferences stay. */
export function forgetSignIn(): void {
  for (const name of ["session", "confirmation"]) keep(name, undefined);
}

const changes = new EventTarget();
const memory = new Map<string, unknown>();

/** A preference that all components share, kept while the tab lives. */
export function usePreference<T>(name: string, initial: T): [T, (value: T) => void] {
  const read = () => (memory.has(name) ? (memory.get(name) as T) : (recall<T>(name) ?? initial));
  const [value, set] = useState(read);
  useEffect(() => {
    const changed = () => set(read());
    changes.addEventListener(name, changed);
    return () => changes.removeEventListener(name, changed);
  }, [name]);
  return [
    value,
    (next) => {
      memory.set(name, next);
      keep(name, next);
      changes.dispatchEvent(new Event(name));
    },
  ];
}
