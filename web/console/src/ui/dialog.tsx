import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { Button } from "./button";

/**
 * A modal dialog, open for as long as it is rendered. Escape, the button and a
 * press outside of it close it, except while it is locked. Its heading has the
 * focus at first, so that it is read from its beginning.
 */
export function Dialog({ title, children, onClose, locked = false, wide = false, side = false }: {
  title: string;
  children: ComponentChildren;
  onClose: () => void;
  locked?: boolean;
  wide?: boolean;
  /** Shows it as a panel at the side, for the details of a row. */
  side?: boolean;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const pressed = useRef(false);
  const gone = useRef(false);
  const name = useId();
  useEffect(() => {
    const element = dialog.current;
    const before = document.activeElement;
    element?.showModal();
    heading.current?.focus();
    return () => {
      gone.current = true;
      element?.close();
      // What opened it may be gone, such as the row of a sync that was confirmed.
      const back = before instanceof HTMLElement && before !== document.body && before.isConnected ? before : document.getElementById("main");
      back?.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class={`dialog${wide ? " wide" : ""}${side ? " side" : ""}`}
      aria-labelledby={name}
      onKeyDown={(event) => {
        // Browsers let a page refuse to cancel once, and close it at the next press.
        if (locked && event.key === "Escape") event.preventDefault();
      }}
      onClose={() => {
        if (gone.current) return;
        if (locked) dialog.current?.showModal();
        else onClose();
      }}
      onCancel={(event) => {
        event.preventDefault();
        if (!locked) onClose();
      }}
      onMouseDown={(event) => {
        pressed.current = event.target === dialog.current;
      }}
      onClick={(event) => {
        if (pressed.current && event.target === dialog.current && !locked) onClose();
      }}
    >
      <div class="dialog-box">
        <header class="dialog-head">
          <h2 id={name} ref={heading} tabIndex={-1}>{title}</h2>
          <Button kind="quiet" icon="close" iconOnly disabled={locked} onClick={onClose}>Close</Button>
        </header>
        <div class="dialog-body">{children}</div>
      </div>
    </dialog>
  );
}
