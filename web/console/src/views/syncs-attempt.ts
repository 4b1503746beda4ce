import { ConnectorService } from "@c1proxy/client/gen/c1/api/app/v1/app_pb";
import { useEffect, useReducer } from "preact/hooks";
import { withReason } from "../api";
import { callOptions } from "../call";
import { type Failure, failureOf } from "../failure";
import { keep, recall } from "../kept";
import type { Session } from "../session";

/** Which sync is confirmed, and whose. */
export interface Subject {
  readonly appId: string;
  readonly appName: string;
  readonly connectorId: string;
  readonly connectorName: string;
  readonly syncId: string;
}

/** What became of a confirmation. */
export type Outcome =
  | { readonly kind: "sending" }
  | { readonly kind: "ok"; readonly requestId: string }
  /** Nothing was confirmed. */
  | { readonly kind: "refused"; readonly failure: Failure }
  /** It may have been confirmed. */
  | { readonly kind: "unclear"; readonly failure: Failure | undefined };

/** A confirmation that was sent. It is sent once: whoever wants another makes another. */
export interface Attempt {
  readonly subject: Subject;
  /** The page's own name for the call, by which the audit has it whatever was answered. */
  readonly clientRequestId: string;
  /** When it was sent, in milliseconds. */
  readonly sent: number;
  readonly outcome: Outcome;
}

const slot = "confirmation";
const changes = new EventTarget();
let last = recallLast();

// A page that was left before the answer came: what became of the call is open, and
// stays so until somebody has taken note of it.
function recallLast(): Attempt | undefined {
  const kept = recall<Attempt>(slot);
  return kept?.outcome.kind === "sending" ? { ...kept, outcome: { kind: "unclear", failure: undefined } } : kept;
}

function set(attempt: Attempt | undefined): void {
  last = attempt;
  const open = attempt?.outcome.kind === "sending" || attempt?.outcome.kind === "unclear";
  keep(slot, open ? attempt : undefined);
  changes.dispatchEvent(new Event("change"));
}

/** The last confirmation, as it goes on. It lives on while other views are shown. */
export function useAttempt(): Attempt | undefined {
  const [, changed] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    const look = () => changed(undefined);
    changes.addEventListener("change", look);
    return () => changes.removeEventListener("change", look);
  }, []);
  return last;
}

/** Forgets the last confirmation, unless it is still under way. */
export function forget(): void {
  if (last?.outcome.kind !== "sending") set(undefined);
}

/**
 * Confirms a sync, once. While it is under way no other is sent, and nothing gives
 * it up: not the dialog that closes, nor the view that changes. It is never tried
 * again.
 */
export async function confirm(session: Session, subject: Subject, reason: string): Promise<void> {
  if (last?.outcome.kind === "sending") return;
  const attempt: Attempt = { subject, clientRequestId: randomId(), sent: Date.now(), outcome: { kind: "sending" } };
  set(attempt);
  let leaving = false;
  const warn = (event: BeforeUnloadEvent) => {
    event.preventDefault();
    leaving = true;
  };
  addEventListener("beforeunload", warn);
  let left = false; // the browser then gives the call up, which is no answer
  const leave = () => {
    left = true;
  };
  addEventListener("pagehide", leave);
  try {
    const [options, requestId] = callOptions(new AbortController().signal);
    const stated = withReason(options, reason);
    const headers = new Headers(stated.headers);
    headers.set("X-Request-Id", attempt.clientRequestId);
    const { appId, connectorId, syncId } = subject;
    await session.client(ConnectorService).confirmSyncValid(
      { appId, connectorId, syncLifecycleId: syncId },
      { ...stated, headers },
    );
    set({ ...attempt, outcome: { kind: "ok", requestId: requestId() } });
  } catch (thrown) {
    // Browsers may give it up before they say that the page is left.
    if (leaving) await new Promise((resolve) => setTimeout(resolve, 1000));
    if (left) return;
    const failure = failureOf(thrown, ConnectorService.method.confirmSyncValid);
    set({ ...attempt, outcome: failure.mayHaveActed ? { kind: "unclear", failure } : { kind: "refused", failure } });
  } finally {
    removeEventListener("beforeunload", warn);
    removeEventListener("pagehide", leave);
  }
}

// crypto.randomUUID is only there on pages that came by https.
function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `console-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
