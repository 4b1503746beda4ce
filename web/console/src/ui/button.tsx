import type { ComponentChildren, ButtonHTMLAttributes } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Icon, type IconName } from "./icon";

type Kind = "plain" | "primary" | "danger" | "quiet";

type ButtonProps = Omit<ButtonHTMLAttributes<HTMLButtonElement>, "icon"> & {
  kind?: Kind;
  icon?: IconName | undefined;
  /** Whether what it began is still under way: it then takes no further press. */
  busy?: boolean;
  /** Shows the icon alone; the children are what screen readers say. */
  iconOnly?: boolean;
  children: ComponentChildren;
};

/** A button. Without a type it submits nothing. */
export function Button({ kind = "plain", icon, busy = false, iconOnly = false, children, onClick, ...rest }: ButtonProps) {
  return (
    <button
      type="button"
      {...rest}
      class={`button ${kind}${iconOnly ? " icon-only" : ""}`}
      aria-busy={busy || undefined}
      aria-disabled={busy || rest["aria-disabled"]}
      title={iconOnly ? String(children) : rest.title}
      onClick={busy ? (event) => event.preventDefault() : onClick}
    >
      {busy ? <span class="spinner" aria-hidden="true" /> : icon && <Icon name={icon} />}
      <span class={iconOnly ? "visually-hidden" : undefined}>{children}</span>
    </button>
  );
}

/** A link that looks like a button. */
export function LinkButton({ href, icon, kind = "plain", children }: { href: string; icon?: IconName; kind?: Kind; children: ComponentChildren }) {
  return <a class={`button ${kind}`} href={href}>{icon && <Icon name={icon} />}<span>{children}</span></a>;
}

/** Copies a text, and says so. what names it, as in "Copy request id". */
export function CopyButton({ text, what, label }: { text: string; what: string; label?: string }) {
  const [said, say] = useState<"" | "Copied" | "Not copied: select the text">("");
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
    } catch {
      say("Not copied: select the text");
    }
    clearTimeout(timer.current);
    timer.current = setTimeout(() => say(""), 2500);
  };
  return (
    <span class="copy">
      <button type="button" class={`button quiet ${label ? "" : "icon-only"}`} title={`Copy ${what}`} onClick={() => void copy()}>
        <Icon name={said === "Copied" ? "check" : "copy"} />
        <span class={label ? undefined : "visually-hidden"}>{label ?? `Copy ${what}`}</span>
      </button>
      <span class={said.startsWith("Not") ? "copy-said" : "visually-hidden"} role="status">{said}</span>
    </span>
  );
}
