import type { ComponentChildren } from "preact";

/** What a colour says; it never says it alone: the text says the same. */
export type Tone = "neutral" | "good" | "warn" | "bad" | "info";

/** A short state in words, with a dot of its colour. */
export function Badge({ tone = "neutral", children, title }: { tone?: Tone; children: ComponentChildren; title?: string }) {
  return <span class={`badge ${tone}`} title={title}>{children}</span>;
}
