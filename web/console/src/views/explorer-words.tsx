import type { Method } from "../explorer/catalog";

/** Whether a method reads, writes, or takes away, in a word. */
export function Kind({ method }: { method: Method }) {
  if (method.streams) return <span class="kind">stream</span>;
  if (method.reads) return <span class="kind">read</span>;
  return method.dangerous ? <span class="kind danger">danger</span> : <span class="kind write">write</span>;
}
