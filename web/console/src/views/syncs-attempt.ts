import { ConnectorService } from "@c1proxy/client/gen/c1/api/app/v1/app_pb";
import { useEffect, useReducer } from "preact/hooks";
import { withReason } from "../api";
import { callOptions } from "../call";
import { type Failure, failureOf } from "../failure";
import { keep, recall } from "../kept";
import { personOf, type Session, useSession } from "../session";
import { begin, nameOf as methodName } from "../under-way";

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
  /** Who sent it, and nobody else sees it. */
  readonly by: string;
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

/** The last confirmation of who is signed in, as it goes on. It lives on while other views are shown. */
export function useAttempt(): Attempt | undefined {
  const { who } = useSession();
  const [, changed] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    const look = () => changed(undefined);
    changes.addEventListener("change", look);
    return () => changes.removeEventListener("change", look);
  }, []);
  return last?.by === personOf(who) ? last : undefined;
}

/** Forgets the last confirmation, unless it is still under way. */
export function forget(): void {
  if (last?.outcome.kind !== "sending") set(undefined);
}

/** The method by which syncs are confirmed. */
export const confirmMethod = methodName(ConnectorService.method.confirmSyncValid);

/**
 * Confirms a sync, once. While it is under way no other is sent, and nothing gives
 * it up: not the dialog that closes, nor the view that changes. It is never tried
 * again.
 */
export async function confirm(session: Session, subject: Subject, reason: string): Promise<void> {
  const end = begin(confirmMethod);
  if (!end) return;
  const attempt: Attempt = { by: personOf(session.who), subject, clientRequestId: randomId(), sent: Date.now(), outcome: { kind: "sending" } };
  set(attempt);
  let left = false; // the browser then gives the call up, which is no answer
  const leave = () => {
    left = true;
  };
  addEventListener("pagehide", leave);
  let outcome: Outcome;
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
    outcome = { kind: "ok", requestId: requestId() };
  } catch (thrown) {
    const failure = failureOf(thrown, ConnectorService.method.confirmSyncValid);
    // A browser may give the call up before it says that the page is left.
    if (failure.mayHaveActed && !left) await new Promise((resolve) => setTimeout(resolve, 500));
    if (left) outcome = { kind: "unclear", failure: undefined };
    else outcome = failure.mayHaveActed ? { kind: "unclear", failure } : { kind: "refused", failure };
  } finally {
    removeEventListener("pagehide", leave);
    end();
  }
  if (last?.clientRequestId === attempt.clientRequestId) set({ ...attempt, outcome });
}

// crypto.randomUUID is only there on pages that came by https.
function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `console-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
