import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { explain, type Failure, isRead } from "./errors.js";

/** How reads are repeated. */
export interface RetryOptions {
  /** How often a call is made at most, the first time included; 3. */
  readonly attempts?: number | undefined;
  /** The longest wait before another attempt. Who is told to wait longer gets the error; 10,000. */
  readonly maxWaitMs?: number | undefined;
  /** The wait before the second attempt where nothing says how long; it doubles each time; 250. */
  readonly waitMs?: number | undefined;
  /** Is told of each wait. */
  readonly onWait?: ((failure: Failure, waitMs: number) => void) | undefined;
}

/**
 * Returns an interceptor that repeats calls which failed for a while: those of methods
 * without side effects, and no others, whatever the error says. What changes something,
 * such as ConfirmSyncValid, is made once: whether to make it again is for people to
 * say, when they have looked. Streams are not repeated: see tail.
 *
 * It waits as long as RetryInfo or Retry-After says, and gives up with the call's
 * signal, which is also its deadline's.
 */
export function retry({ attempts = 3, maxWaitMs = 10_000, waitMs = 250, onWait }: RetryOptions = {}): Interceptor {
  return (next) => async (request) => {
    if (request.stream || !isRead(request.method)) return next(request);
    for (let attempt = 1; ; attempt++) {
      try {
        return await next(request);
      } catch (thrown) {
        const wait = passes(thrown) ? backoff(thrown, waitMs * 2 ** (attempt - 1)) : undefined;
        if (attempt >= attempts || wait === undefined || wait > maxWaitMs || request.signal.aborted) throw thrown;
        onWait?.(explain(thrown, request.method), wait);
        await sleep(wait, request.signal);
      }
    }
  };
}

/** Whether what failed a read may be over in a moment. */
export function passes(thrown: unknown): boolean {
  const { error, reason, retryAfterMs } = explain(thrown);
  return error.code === Code.Unavailable || (error.code === Code.ResourceExhausted && retryAfterMs !== undefined) || reason === "NO_ANSWER";
}

/** A day. A timer that is set to more than 24.8 of them goes off at once. */
const longestMs = 24 * 60 * 60 * 1000;

/** How long to wait: what the error says, or a time around the given one, and a day at most. */
export function backoff(thrown: unknown, otherwiseMs: number): number {
  return Math.min(explain(thrown).retryAfterMs ?? otherwiseMs * (0.5 + Math.random()), longestMs);
}

/** Waits, and throws when the signal is aborted. */
export function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(ConnectError.from(signal?.reason, Code.Canceled));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}
