import type { CallOptions } from "@connectrpc/connect";
import { type Inputs, useCallback, useEffect, useRef, useState } from "preact/hooks";
import { type Failure, failureOf } from "./failure";

/** Where a call is. A value or failure that was there before stays while it runs anew. */
export type CallState<T> =
  | { readonly kind: "idle"; readonly value?: undefined }
  | { readonly kind: "loading"; readonly value?: T | undefined }
  | { readonly kind: "ok"; readonly value: T; readonly requestId: string }
  | { readonly kind: "failed"; readonly failure: Failure; readonly value?: T | undefined };

/** Makes one call, or several, with the options given. */
export type Caller<T> = (options: CallOptions & { signal: AbortSignal }) => Promise<T>;

export interface Call<T> {
  readonly state: CallState<T>;
  /** Makes the call. One that still runs is given up: its answer changes nothing. */
  run(caller: Caller<T>): Promise<void>;
  /** Gives up what runs, and forgets what was answered. */
  reset(): void;
}

/**
 * A call and its state. The call is given up when the component goes. A call that
 * must not be given up half-way has no place here: see useOnce.
 */
export function useCall<T>(): Call<T> {
  const [state, set] = useState<CallState<T>>({ kind: "idle" });
  const running = useRef<AbortController | undefined>(undefined);
  useEffect(() => () => running.current?.abort(), []);

  const run = useCallback(async (caller: Caller<T>) => {
    running.current?.abort();
    const controller = new AbortController();
    running.current = controller;
    set((before) => ({ kind: "loading", value: before.value }));
    const [options, requestId] = callOptions(controller.signal);
    let next: (before: CallState<T>) => CallState<T>;
    try {
      const value = await caller(options);
      next = () => ({ kind: "ok", value, requestId: requestId() });
    } catch (thrown) {
      const failure = failureOf(thrown);
      next = (before) => ({ kind: "failed", failure, value: before.value });
    }
    if (running.current === controller && !controller.signal.aborted) set(next);
  }, []);
  const reset = useCallback(() => {
    running.current?.abort();
    running.current = undefined;
    set({ kind: "idle" });
  }, []);
  return { state, run, reset };
}

/** A read that is made at once, and anew whenever one of inputs changes or reload is called. */
export function useRead<T>(caller: Caller<T>, inputs: Inputs): { state: CallState<T>; reload: () => void } {
  const { state, run } = useCall<T>();
  const latest = useRef(caller);
  latest.current = caller;
  const reload = useCallback(() => void run((options) => latest.current(options)), [run]);
  useEffect(reload, [reload, ...inputs]);
  return { state: state.kind === "idle" ? { kind: "loading" } : state, reload };
}

/** Options that take note of the request id of the answer. */
export function callOptions(signal: AbortSignal): [CallOptions & { signal: AbortSignal }, () => string] {
  let requestId = "";
  const options = {
    signal,
    onHeader: (headers: Headers) => {
      requestId = headers.get("x-request-id") ?? requestId;
    },
  };
  return [options, () => requestId];
}

/** Maps with at most limit under way at once, and keeps the order. */
export async function mapBounded<T, R>(items: readonly T[], limit: number, map: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array<R>(items.length);
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < items.length; i = next++) results[i] = await map(items[i] as T);
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  return results;
}
