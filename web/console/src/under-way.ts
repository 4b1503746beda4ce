import { useEffect, useReducer } from "preact/hooks";

// Calls that act and are not answered yet. Of each method there is one at a time,
// whichever view made it, and the browser asks before it leaves them.

const open = new Set<string>();
const changes = new EventTarget();

function warn(event: BeforeUnloadEvent): void {
  event.preventDefault();
}

function changed(): void {
  if (open.size > 0) addEventListener("beforeunload", warn);
  else removeEventListener("beforeunload", warn);
  changes.dispatchEvent(new Event("change"));
}

/** Begins a call of a method, and returns what ends it; undefined if one is under way. */
export function begin(method: string): (() => void) | undefined {
  if (open.has(method)) return undefined;
  open.add(method);
  changed();
  return () => {
    open.delete(method);
    changed();
  };
}

/** Whether a call of a method that acts is under way. */
export function useUnderWay(method: string): boolean {
  const [, look] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    const listen = () => look(undefined);
    changes.addEventListener("change", listen);
    return () => changes.removeEventListener("change", listen);
  }, []);
  return open.has(method);
}

/** The full name of a method, as begin takes it. */
export function nameOf(method: { readonly parent: { readonly typeName: string }; readonly name: string }): string {
  return `${method.parent.typeName}/${method.name}`;
}
