import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";

let first = true;

/** Says that another page was shown before the first view, which then takes the focus too. */
export function cameFromSignIn(): void {
  first = false;
}

/**
 * A view's heading and content. It names the document, and takes the focus where
 * one view follows another, so that a screen reader says where one is.
 */
export function Page({ title, about, actions, children }: {
  title: string;
  about?: ComponentChildren;
  actions?: ComponentChildren;
  children: ComponentChildren;
}) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · c1proxy`;
    if (!first) heading.current?.focus();
    first = false;
  }, [title]);
  return (
    <div class="page">
      <header class="page-head">
        <div>
          <h1 ref={heading} tabIndex={-1}>{title}</h1>
          {about && <p class="about">{about}</p>}
        </div>
        {actions && <div class="actions">{actions}</div>}
      </header>
      {children}
    </div>
  );
}

/** A part of a page with a heading. */
export function Section({ title, about, actions, children }: {
  title: string;
  about?: ComponentChildren;
  actions?: ComponentChildren;
  children: ComponentChildren;
}) {
  const id = useId();
  return (
    <section class="section" aria-labelledby={id}>
      <header class="section-head">
        <div>
          <h2 id={id}>{title}</h2>
          {about && <p class="about">{about}</p>}
        </div>
        {actions && <div class="actions">{actions}</div>}
      </header>
      {children}
    </section>
  );
}
