import type { JsonValue } from "@bufbuild/protobuf";
import { useState } from "preact/hooks";
import { useFocus } from "../ui";
import { plain, plainJson } from "../ui/text";

const step = 100;

/** A JSON value as a tree, whose branches are made when they are opened. */
export function Tree({ value, name, depth = 0 }: { value: JsonValue; name?: string | undefined; depth?: number }) {
  const [open, set] = useState(depth < 3);
  const [shown, show] = useState(step);
  const [root, focus] = useFocus();
  const label = name === undefined ? null : <span class="tree-name">{plain(name)}: </span>;
  if (typeof value !== "object" || value === null) return <div class="tree-leaf">{label}<Leaf value={value} /></div>;
  const list = Array.isArray(value);
  const entries: [string, JsonValue][] = list ? value.map((one, i) => [String(i), one]) : Object.entries(value);
  const count = list ? `${entries.length} ${entries.length === 1 ? "item" : "items"}` : `${entries.length} ${entries.length === 1 ? "field" : "fields"}`;
  if (entries.length === 0) return <div class="tree-leaf">{label}<span class="muted">{list ? "[] empty" : "{} empty"}</span></div>;
  const more = () => {
    // The button goes with the last of them: what it showed first is next.
    if (shown + step >= entries.length) focus((branch) => branch.querySelector<HTMLElement>(`:scope > :nth-child(${shown + 2}) > summary, :scope > .tree-leaf:nth-child(${shown + 2})`));
    show(shown + step);
  };
  return (
    <details class="tree" ref={root} open={open} onToggle={(event) => set(event.currentTarget.open)}>
      <summary>{label}<span class="muted">{count}</span></summary>
      {open && entries.slice(0, shown).map(([key, one]) => <Tree key={key} name={key} value={one} depth={depth + 1} />)}
      {open && entries.length > shown && <button type="button" class="button quiet" onClick={more}>{entries.length - shown} more</button>}
    </details>
  );
}

function Leaf({ value }: { value: string | number | boolean | null }) {
  if (typeof value === "string") return <span class="tree-text">{plainJson(JSON.stringify(value))}</span>;
  return <span class="tree-other">{String(value)}</span>;
}
