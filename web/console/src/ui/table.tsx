import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { plain } from "./text";

export interface Column<R> {
  readonly title: string;
  readonly cell: (row: R) => ComponentChildren;
  /** Set for numbers and actions, which stand at the right. */
  readonly end?: boolean;
  /** Set for the column that names the row. */
  readonly head?: boolean;
  /** Takes what room is left. */
  readonly grow?: boolean;
}

/**
 * A table. On a narrow window each row is a card, with the columns' titles beside
 * the values; what is still too wide scrolls within.
 */
export function Table<R>({ caption, columns, rows, rowKey, tone, onOpen }: {
  /** What the table is, for screen readers. */
  caption: string;
  columns: readonly Column<R>[];
  rows: readonly R[];
  rowKey: (row: R) => string;
  /** Sets a row apart. */
  tone?: (row: R) => "bad" | "warn" | undefined;
  /** Opens a row at a press anywhere in it; a button or link in it must do the same for the keyboard. */
  onOpen?: (row: R) => void;
}) {
  const region = useRef<HTMLDivElement>(null);
  const overflows = useOverflow(region);
  return (
    <div class="table" ref={region} {...(overflows ? { tabIndex: 0, role: "region", "aria-label": caption } : {})}>
      <table role="table">
        <caption class="visually-hidden">{caption}</caption>
        <thead role="rowgroup">
          <tr role="row">
            {columns.map((column) => (
              <th key={column.title} scope="col" role="columnheader" class={column.end ? "end" : undefined}>
                {column.end && column.title === "Actions" ? <span class="visually-hidden">Actions</span> : column.title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {rows.map((row) => (
            <tr key={rowKey(row)} role="row" class={[tone?.(row) ?? "", onOpen ? "opens" : ""].join(" ").trim() || undefined}
              onClick={onOpen && ((event) => {
                const target = event.target as Element;
                if (!target.closest("a, button, input, label") && !getSelection()?.toString()) onOpen(row);
              })}>
              {columns.map((column) => {
                const className = [column.end ? "end" : "", column.grow ? "grow" : ""].join(" ").trim() || undefined;
                return column.head
                  ? <th key={column.title} scope="row" role="rowheader" class={className} data-title={column.title}>{column.cell(row)}</th>
                  : <td key={column.title} role="cell" class={className} data-title={column.title}>{column.cell(row)}</td>;
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Whether an element has more than it shows, and must so be reached by the keyboard to scroll. */
function useOverflow(of: { current: HTMLElement | null }): boolean {
  const [overflows, set] = useState(false);
  useEffect(() => {
    const element = of.current;
    if (!element) return;
    const look = () => set(element.scrollWidth > element.clientWidth + 1);
    const observer = new ResizeObserver(look);
    observer.observe(element);
    if (element.firstElementChild) observer.observe(element.firstElementChild);
    return () => observer.disconnect();
  }, [of]);
  return overflows;
}

/** Names and their values; what has no value is left out. */
export function Facts({ facts }: { facts: readonly (readonly [name: string, value: ComponentChildren])[] }) {
  return (
    <dl class="facts">
      {facts.filter(([, value]) => value !== undefined && value !== "" && value !== null && value !== false).map(([name, value]) => (
        <div key={name}><dt>{name}</dt><dd>{typeof value === "string" ? plain(value) : value}</dd></div>
      ))}
    </dl>
  );
}
