import type { ComponentChildren } from "preact";
import type { CallState } from "../call";
import { type Failure, isRefusal } from "../failure";
import { href } from "../router";
import { Button, CopyButton } from "./button";
import { Icon } from "./icon";
import type { Tone } from "./badge";
import { plain } from "./text";

/** What stands for content that is on its way. */
export function Loading({ what = "Loading", rows = 3 }: { what?: string; rows?: number }) {
  return (
    <div class="loading" role="status">
      <span class="visually-hidden">{what}…</span>
      {Array.from({ length: rows }, (_, i) => <span key={i} class="skeleton" aria-hidden="true" />)}
    </div>
  );
}

/** What is said where there is nothing, and what one can do then. */
export function Empty({ title, children, action }: { title: string; children?: ComponentChildren; action?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children && <div class="empty-text">{children}</div>}
      {action}
    </div>
  );
}

/** A boxed message. Bad and warn ones are said at once by screen readers. */
export function Notice({ tone = "info", title, children, actions }: {
  tone?: Tone;
  title?: ComponentChildren;
  children?: ComponentChildren;
  actions?: ComponentChildren;
}) {
  const icon = tone === "good" ? "check" : tone === "bad" || tone === "warn" ? "warning" : "info";
  return (
    <div class={`notice ${tone}`} role={tone === "bad" ? "alert" : "status"}>
      <Icon name={icon} />
      <div class="notice-text">
        {title && <p class="notice-title">{title}</p>}
        {children && <div>{children}</div>}
        {actions && <div class="notice-actions">{actions}</div>}
      </div>
    </div>
  );
}

/** A call that failed: what happened, what to do, and what to tell those who help. */
export function Failed({ failure, what, onRetry }: { failure: Failure; what?: string; onRetry?: (() => void) | undefined }) {
  if (isRefusal(failure)) return <Refused failure={failure} {...(what ? { what } : {})} />;
  return (
    <div class="notice bad" role="alert">
      <Icon name="warning" />
      <div class="notice-text">
        <p class="notice-title">{what ?? failure.title}</p>
        <p class="failure-message">{sentence(failure.message)}</p>
        <p>{failure.advice}{waiting(failure)}</p>
        <Trace failure={failure} />
        {onRetry && <div class="notice-actions"><Button onClick={onRetry}>Try again</Button></div>}
      </div>
    </div>
  );
}

/** A call that the policy refused: by which rule, why, and where to see more. */
export function Refused({ failure, what }: { failure: Failure; what?: string }) {
  return (
    <div class="notice warn" role="alert">
      <Icon name="refused" />
      <div class="notice-text">
        <p class="notice-title">{what ? `${what}: refused` : failure.title}</p>
        <p class="failure-message">{sentence(failure.message)}</p>
        <p>{failure.advice}{waiting(failure)}</p>
        <Trace failure={failure} />
        {failure.requestId && (
          <p><a href={href("access", { request_id: failure.requestId })}>Why was I refused?</a></p>
        )}
      </div>
    </div>
  );
}

function waiting({ retryAfter }: Failure): string {
  if (retryAfter === undefined) return "";
  const seconds = Math.max(1, Math.ceil(retryAfter / 1000));
  return ` It is worth another try in ${seconds < 90 ? `${seconds} ${seconds === 1 ? "second" : "seconds"}` : `${Math.ceil(seconds / 60)} minutes`}.`;
}

function Trace({ failure }: { failure: Failure }) {
  return (
    <p class="trace">
      <code>{[failure.codeName, failure.reason].filter(Boolean).join(" · ")}</code>
      {failure.facts["rule"] && <> rule <code>{failure.facts["rule"]}</code></>}
      {failure.requestId && (
        <span class="nowrap"> request <code>{failure.requestId}</code><CopyButton text={failure.requestId} what="request id" /></span>
      )}
    </p>
  );
}

/** Makes a sentence of a message that begins small and ends without a stop. */
function sentence(message: string): string {
  const told = plain(message);
  const text = told.charAt(0).toUpperCase() + told.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/**
 * Shows a call in its state: the skeleton, the failure, or what children make of
 * the value. A value from before stays in sight while the call is made anew.
 */
export function Answered<T>({ state, what, onRetry, rows, children }: {
  state: CallState<T>;
  /** What failed, in words, as in "The apps could not be listed". */
  what?: string;
  onRetry?: () => void;
  rows?: number;
  children: (value: T) => ComponentChildren;
}) {
  const shown = state.value;
  return (
    <>
      {state.kind === "failed" && <Failed failure={state.failure} onRetry={onRetry} {...(what ? { what } : {})} />}
      {state.kind === "loading" && shown === undefined && <Loading {...(rows ? { rows } : {})} />}
      {shown !== undefined && <div aria-busy={state.kind === "loading" || undefined}>{children(shown)}</div>}
    </>
  );
}
