import type { Client } from "@connectrpc/connect";
import {
  type App, Apps, type Connector, ConnectorService, ConnectorStatus_Status as Status,
} from "@c1proxy/client/gen/c1/api/app/v1/app_pb";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { mapBounded } from "../call";
import { type Failure, failureOf } from "../failure";
import type { Session } from "../session";
import type { Tone } from "../ui";
import { plain, typed } from "../ui/text";

/** An app and its connectors, as far as they are known. */
export interface AppSyncs {
  readonly app: App;
  /** Undefined while they are on their way. */
  readonly connectors?: readonly Connector[] | undefined;
  /** Why they could not be listed, wholly or to their end. */
  readonly failure?: Failure | undefined;
}

/** What a connector's last sync came to. */
export type SyncState = "lost" | "failed" | "running" | "disabled" | "done" | "unknown";

/** The states in the order in which they want to be seen. */
export const syncStates: Readonly<Record<SyncState, readonly [words: string, tone: Tone]>> = {
  lost: ["Lost its data", "bad"],
  failed: ["Failed", "warn"],
  running: ["Running", "info"],
  disabled: ["Paused", "neutral"],
  done: ["Done", "good"],
  unknown: ["Not known", "neutral"],
};

/** The word by which C1's text of an error says that most data was gone. */
const lostWord = /\bERRORED_NO_DATA\b/;

/** What a connector's last sync came to. */
export function syncState(connector: Connector): SyncState {
  const status = connector.status;
  if (status?.status === Status.SYNC_STATUS_RUNNING) return "running";
  if (status?.status === Status.SYNC_STATUS_ERROR) return lostWord.test(status.lastError) ? "lost" : "failed";
  if (status?.status === Status.SYNC_STATUS_DISABLED || connector.syncDisabledAt) return "disabled";
  if (status?.status === Status.SYNC_STATUS_DONE) return "done";
  return "unknown";
}

/**
 * The sync's id, if C1's text of the error names it. No field of C1's API has it,
 * and the text is for people: what is found is a proposal to check.
 */
export function proposedSyncId(connector: Connector): string {
  const found = /\bsync ([A-Za-z0-9_-]{8,64}) is ERRORED_NO_DATA\b/.exec(connector.status?.lastError ?? "");
  return found?.[1] ?? "";
}

/** A connector's name, or its id if it has none that one can see. */
export function nameOf(thing: { displayName: string; id: string }): string {
  return plain(typed(thing.displayName) === "" ? thing.id : thing.displayName);
}

export interface Syncs {
  /** Undefined until the first page of apps is there. */
  readonly apps: readonly AppSyncs[] | undefined;
  /** Why the apps could not be listed, wholly or to their end. */
  readonly failure: Failure | undefined;
  /** Whether something is on its way. */
  readonly busy: boolean;
  /** When all of it was last there. */
  readonly at: Date | undefined;
  reload(): void;
  /** Lists an app's connectors anew. */
  reloadApp(appId: string): void;
  /** Asks C1 for one connector, and puts it in its place. */
  look(appId: string, id: string): Promise<Connector | undefined>;
}

/** How many apps' connectors are listed at once: C1's limits are for everybody. */
const atOnce = 4;
const pageSize = 100;

/** The apps that the caller sees in C1, with their connectors, as they arrive. */
export function useSyncs(session: Session): Syncs {
  const [apps, setApps] = useState<readonly AppSyncs[] | undefined>();
  const [failure, setFailure] = useState<Failure | undefined>();
  const [busy, setBusy] = useState(false);
  const [at, setAt] = useState<Date | undefined>();
  const running = useRef<AbortController | undefined>(undefined);
  const appsClient = session.client(Apps);
  const connectors = session.client(ConnectorService);

  const put = useCallback((appId: string, change: (before: AppSyncs) => AppSyncs) => {
    setApps((all) => all?.map((one) => (one.app.id === appId ? change(one) : one)));
  }, []);

  const list = useCallback(async (appId: string, signal: AbortSignal) => {
    const found: Connector[] = [];
    try {
      for await (const connector of listConnectors(connectors, appId, signal)) found.push(connector);
      if (!signal.aborted) put(appId, (before) => ({ app: before.app, connectors: found }));
    } catch (thrown) {
      if (!signal.aborted) put(appId, (before) => ({ app: before.app, connectors: before.connectors ?? found, failure: failureOf(thrown) }));
    }
  }, [connectors, put]);

  const reload = useCallback(async () => {
    running.current?.abort();
    const controller = new AbortController();
    const { signal } = controller;
    running.current = controller;
    setBusy(true);
    setFailure(undefined);
    const found: App[] = [];
    try {
      let pageToken = "";
      do {
        const page = await patient(signal, () => appsClient.list({ pageSize, pageToken }, { signal }));
        found.push(...page.list);
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
    } catch (thrown) {
      if (!signal.aborted) setFailure(failureOf(thrown));
    }
    if (signal.aborted) return;
    found.sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
    if (found.length > 0 || running.current === controller) {
      setApps((before) => {
        if (found.length === 0 && before) return before;
        return found.map((app) => before?.find((one) => one.app.id === app.id && (one.connectors?.length ?? 0) > 0) ?? { app });
      });
    }
    await mapBounded(found, atOnce, (app) => (signal.aborted ? Promise.resolve() : list(app.id, signal)));
    if (signal.aborted) return;
    setAt(new Date());
    setBusy(false);
  }, [appsClient, list]);

  useEffect(() => {
    void reload();
    return () => running.current?.abort();
  }, [reload]);

  const look = useCallback(async (appId: string, id: string) => {
    const { connectorView } = await connectors.get({ appId, id });
    const connector = connectorView?.connector;
    if (connector) {
      put(appId, (before) => ({
        ...before,
        connectors: before.connectors?.map((one) => (one.id === id ? connector : one)),
      }));
    }
    return connector;
  }, [connectors, put]);

  const reloadApp = useCallback((appId: string) => {
    put(appId, (before) => ({ app: before.app }));
    void list(appId, running.current?.signal ?? new AbortController().signal);
  }, [put, list]);

  return { apps, failure, busy, at, reload: () => void reload(), reloadApp, look };
}

async function* listConnectors(client: Client<typeof ConnectorService>, appId: string, signal: AbortSignal) {
  let pageToken = "";
  do {
    const page = await patient(signal, () => client.list({ appId, pageSize, pageToken }, { signal }));
    for (const view of page.list) if (view.connector) yield view.connector;
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
}

/** Makes a read, and waits where a limit says how long: many apps are many calls. */
async function patient<T>(signal: AbortSignal, read: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await read();
    } catch (thrown) {
      const { retryAfter, reason } = failureOf(thrown);
      const limited = reason === "RATE_LIMITED" || reason === "UPSTREAM_RATE_LIMITED" || reason === "OVERLOADED";
      if (!limited || retryAfter === undefined || retryAfter > 10_000 || tries === 5 || signal.aborted) throw thrown;
      await pause(retryAfter + Math.random() * 250, signal);
    }
  }
}

/** Waits, but no longer than the signal lets it. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
