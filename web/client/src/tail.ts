import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type Client } from "@connectrpc/connect";
import type { AuditService, TailRequestSchema, TailResponse } from "../gen/c1proxy/v1/audit_pb.js";
import { explain, type Failure } from "./errors.js";
import { backoff, passes, sleep } from "./retry.js";

// A tail has no deadline, whatever the transport gives other calls.
const endless = { timeoutMs: 0 };

/** How a tail is kept up. */
export interface TailOptions {
  /** Ends the tail. */
  readonly signal?: AbortSignal | undefined;
  /** The longest wait before the tail is resumed, unless c1proxy says another; 15,000. */
  readonly maxWaitMs?: number | undefined;
  /** Is told when the tail broke, and how long it waits; undefined where the gateway ended it in good order. */
  readonly onBreak?: ((failure: Failure | undefined, waitMs: number) => void) | undefined;
}

/**
 * Follows the audit: what AuditService.Tail sends, resumed from where it broke, so
 * that no record is left out or comes twice. It ends with the signal, and throws what
 * waiting does not heal, such as a rule that refuses it: follow it again with from, as
 * the last answer's next says it.
 *
 * c1proxy ends a stream when the token expires that it was begun with. It is resumed at
 * once, which asks a credential that is a function for a fresh one; what is refused
 * before it has answered is thrown.
 *
 * Each replica has a log of its own. If it is another's that resumes, it throws
 * failed_precondition: begin anew.
 */
export async function* tail(
  client: Pick<Client<typeof AuditService>, "tail">,
  request: MessageInitShape<typeof TailRequestSchema>,
  { signal, maxWaitMs = 15_000, onBreak }: TailOptions = {},
): AsyncGenerator<TailResponse, void, undefined> {
  let from: bigint | undefined = request.from;
  let log: string | undefined;
  let idle = 0; // attempts since the last answer
  while (!signal?.aborted) {
    let failure: Failure | undefined;
    let wait = 0;
    let answered = false;
    try {
      const next = from === undefined ? {} : { from };
      for await (const answer of client.tail({ ...request, ...next }, { ...endless, ...(signal ? { signal } : {}) })) {
        if (log !== undefined && answer.log !== log) {
          throw new ConnectError(`resume tail: this is the log ${answer.log}, of another replica, and not ${log}`, Code.FailedPrecondition);
        }
        [log, from, idle, answered] = [answer.log, answer.next, 0, true];
        yield answer;
      }
      // A stream that ends at once is not asked for without end.
      if (idle++ > 0) wait = Math.min(250 * 2 ** Math.min(idle, 10), maxWaitMs);
    } catch (thrown) {
      if (signal?.aborted) return;
      failure = explain(thrown);
      const expired = answered && failure.error.code === Code.Unauthenticated;
      if (!expired && !passes(thrown) && !broke(failure)) throw thrown;
      if (!expired) wait = backoff(thrown, Math.min(250 * 2 ** Math.min(idle++, 10), maxWaitMs));
    }
    if (signal?.aborted) return;
    onBreak?.(failure, wait);
    await sleep(wait, signal).catch(() => {});
  }
}

/** Whether a stream ended in the middle, by nobody's decision. */
function broke({ error, reason }: Failure): boolean {
  return !error.isWireError && reason !== "NO_CREDENTIAL" && (error.code === Code.Unknown || error.code === Code.Internal);
}
