import type { App, Connector } from "@c1proxy/client/gen/c1/api/app/v1/app_pb";
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { href, navigate, useRoute } from "../router";
import { useSession } from "../session";
import { Badge, Button, type Column, CopyButton, Empty, Failed, Loading, Notice, Page, SearchInput, Section, Select, Table, Time } from "../ui";
import { plain } from "../ui/text";
import { forget, useAttempt } from "./syncs-attempt";
import { ConfirmDialog, OutcomeNotice } from "./syncs-confirm";
import { type AppSyncs, nameOf, type Syncs, type SyncState, syncState, syncStates, useSyncs } from "./syncs-data";

const order = Object.keys(syncStates) as SyncState[];

interface Row {
  readonly app: App;
  readonly connector: Connector;
  readonly state: SyncState;
}

/** Apps, their connectors and how their syncs are. */
export default function SyncsView() {
  const session = useSession();
  const syncs = useSyncs(session);
  const [search, setSearch] = useState("");
  const [only, setOnly] = useState<SyncState | "">("");
  const { params } = useRoute();
  const attempt = useAttempt();
  const rows = useMemo(() => rowsOf(syncs.apps ?? []), [syncs.apps]);
  const lost = rows.filter((row) => row.state === "lost");
  const confirming = rows.find((row) => row.app.id === params.get("app") && row.connector.id === params.get("confirm"));
  useRunning(rows, syncs);

  const look = useCallback(
    async () => (confirming ? await syncs.look(confirming.app.id, confirming.connector.id) : undefined),
    [syncs.look, confirming?.app.id, confirming?.connector.id],
  );
  const close = () => navigate(href("syncs"), true);
  const away = attempt && !(confirming && confirming.connector.id === attempt.subject.connectorId) ? attempt : undefined;
  const filtered = useMemo(() => rows.filter((row) => matches(row, search, only)), [rows, search, only]);

  return (
    <Page title="Syncs" about={`What C1 of ${session.who.tenant} has read from your apps, and how it went.`}
      actions={
        <>
          {syncs.at && !syncs.busy && <span class="muted small">As of <Time of={syncs.at} /></span>}
          <Button icon="sync" busy={syncs.busy} onClick={syncs.reload}>Refresh</Button>
        </>
      }>
      {away && (
        <div class="stack">
          <OutcomeNotice attempt={away} />
          <div class="row">
            <Button onClick={() => navigate(href("syncs", { app: away.subject.appId, confirm: away.subject.connectorId }))}>Show what became of it</Button>
            {away.outcome.kind !== "sending" && <Button kind="quiet" onClick={forget}>Dismiss</Button>}
          </div>
        </div>
      )}
      {syncs.failure && <Failed failure={syncs.failure} what="The apps could not be listed" onRetry={syncs.reload} />}
      {lost.length > 0 && <Lost rows={lost} />}
      {syncs.apps === undefined && !syncs.failure && <Loading what="Asking C1 for the apps" rows={6} />}
      {syncs.apps?.length === 0 && !syncs.failure && (
        <Empty title="No apps">C1 has no app that c1proxy’s credential sees. An app appears here once it is made in C1.</Empty>
      )}
      {syncs.apps !== undefined && syncs.apps.length > 0 && (
        <>
          <div class="filters">
            <SearchInput aria-label="Search apps and connectors" placeholder="Search apps and connectors" value={search}
              onInput={(event) => setSearch(event.currentTarget.value)} />
            <div class="filter-state">
              <Select aria-label="Status" value={only} onChange={(event) => setOnly(event.currentTarget.value as SyncState | "")}>
                <option value="">Any status ({rows.length})</option>
                {order.map((state) => {
                  const count = rows.filter((row) => row.state === state).length;
                  return count > 0 || only === state ? <option key={state} value={state}>{syncStates[state][0]} ({count})</option> : null;
                })}
              </Select>
            </div>
          </div>
          <p class="visually-hidden" role="status">{filtered.length} of {rows.length} connectors</p>
          <AppsList syncs={syncs} rows={filtered} filtering={search !== "" || only !== ""} search={search} />
          {filtered.length === 0 && rows.length > 0 && (
            <Empty title="No connector matches" action={<Button onClick={() => { setSearch(""); setOnly(""); }}>Show all</Button>} />
          )}
        </>
      )}
      {confirming && <ConfirmDialog app={confirming.app} connector={confirming.connector} look={look} onClose={close} />}
      {params.has("confirm") && !confirming && syncs.at && !syncs.busy && (
        <Notice tone="warn" title="This connector is not there" actions={<Button onClick={close}>Close</Button>}>
          {syncs.failure ? "C1’s apps could not be listed." : "C1 does not list it, or not to you."}
        </Notice>
      )}
    </Page>
  );
}

/** Syncs that lost their data, which somebody must decide about. */
function Lost({ rows }: { rows: readonly Row[] }) {
  return (
    <section class="lost" aria-label="Syncs that lost their data">
      <header>
        <h2>{rows.length === 1 ? "A sync lost its data" : `${rows.length} syncs lost their data`}</h2>
        <p>Most of what the sync before had found is gone, so C1 holds it for an error. Somebody who knows the app must say whether it is right.</p>
      </header>
      <ul>
        {rows.map(({ app, connector }) => (
          <li key={`${app.id}/${connector.id}`}>
            <div class="lost-what">
              <p><strong>{nameOf(connector)}</strong> <span class="soft">in {nameOf(app)}</span></p>
              <p class="soft small">
                {connector.status?.completedAt && <>Ended <Time of={connector.status.completedAt} />. </>}
                <bdi>{plain(connector.status?.lastError ?? "")}</bdi>
              </p>
            </div>
            <a class="button danger" href={href("syncs", { app: app.id, confirm: connector.id })}>
              Review and confirm…<span class="visually-hidden"> the sync of {nameOf(connector)}</span>
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}

function AppsList({ syncs, rows, filtering, search }: { syncs: Syncs; rows: readonly Row[]; filtering: boolean; search: string }) {
  const byApp = useMemo(() => {
    const grouped = new Map<string, Row[]>();
    for (const row of rows) grouped.set(row.app.id, [...(grouped.get(row.app.id) ?? []), row]);
    return grouped;
  }, [rows]);
  const apps = useMemo(() => [...(syncs.apps ?? [])].sort((a, b) => urgency(a) - urgency(b)), [syncs.apps]);
  const empty = apps.filter((one) => one.connectors?.length === 0 && !one.failure);
  return (
    <>
      {apps.map((one) => {
        const mine = byApp.get(one.app.id) ?? [];
        if (one.connectors?.length === 0 && !one.failure) return null;
        if (filtering && mine.length === 0 && !one.failure) return null;
        return <AppSection key={one.app.id} one={one} rows={mine} onRetry={() => syncs.reloadApp(one.app.id)} />;
      })}
      {empty.length > 0 && (!filtering || empty.some((one) => contains(nameOf(one.app), search))) && (
        <p class="muted small">Without connectors: {empty.map((one) => nameOf(one.app)).join(", ")}</p>
      )}
    </>
  );
}

/** Where an app stands among the others: what wants to be looked at is first. */
function urgency({ connectors, failure }: AppSyncs): number {
  const worst = Math.min(order.length, ...(connectors ?? []).map((connector) => order.indexOf(syncState(connector))));
  return worst <= order.indexOf("failed") ? worst : failure ? order.indexOf("failed") : order.length;
}

const shownAtFirst = 15;

function AppSection({ one, rows, onRetry }: { one: AppSyncs; rows: readonly Row[]; onRetry: () => void }) {
  const [all, setAll] = useState(false);
  const count = one.connectors?.length;
  const shown = all ? rows : rows.slice(0, shownAtFirst);
  return (
    <Section title={nameOf(one.app)} about={plain(one.app.description) || undefined}
      actions={count !== undefined && <span class="muted small">{count} {count === 1 ? "connector" : "connectors"}</span>}>
      {one.failure && <Failed failure={one.failure} what="The connectors could not be listed" onRetry={onRetry} />}
      {one.connectors === undefined && !one.failure && <Loading what={`Asking C1 for the connectors of ${nameOf(one.app)}`} rows={2} />}
      {shown.length > 0 && (
        <Table caption={`Connectors of ${nameOf(one.app)}`} columns={columns} rows={shown} rowKey={(row) => row.connector.id}
          tone={(row) => (row.state === "lost" ? "bad" : undefined)} />
      )}
      {shown.length < rows.length && (
        <div><Button kind="quiet" onClick={() => setAll(true)}>Show {rows.length - shown.length} more of {nameOf(one.app)}</Button></div>
      )}
    </Section>
  );
}

const columns: readonly Column<Row>[] = [
  {
    title: "Connector",
    head: true,
    cell: ({ connector }) => (
      <span class="connector">
        <span>{nameOf(connector)}</span>
        <span class="muted mono id">{connector.id}<CopyButton text={connector.id} what={`id of ${nameOf(connector)}`} /></span>
      </span>
    ),
  },
  { title: "Status", cell: ({ state }) => <Badge tone={syncStates[state][1]}>{syncStates[state][0]}</Badge> },
  { title: "Started", cell: ({ connector }) => <span class="nowrap"><Time of={connector.status?.startedAt} /></span> },
  {
    title: "Ended",
    cell: ({ connector, state }) => (
      <span class="nowrap">{state === "running" ? <span class="muted">not yet</span> : <Time of={connector.status?.completedAt} />}</span>
    ),
  },
  { title: "Notes", grow: true, cell: (row) => <span class="small soft">{plain(notes(row)) || <span class="visually-hidden">none</span>}</span> },
  {
    title: "Actions",
    end: true,
    cell: ({ app, connector, state }) => (state === "lost" || state === "failed") && (
      <a class="button plain small nowrap" href={href("syncs", { app: app.id, confirm: connector.id })}>
        Confirm…<span class="visually-hidden"> the sync of {nameOf(connector)}</span>
      </a>
    ),
  },
];

function notes({ connector, state }: Row): string {
  if (state === "disabled") {
    return [connector.syncDisabledReason && `Paused: ${connector.syncDisabledReason}`, connector.status?.lastError].filter(Boolean).join(". ");
  }
  return connector.status?.lastError ?? "";
}

function rowsOf(apps: readonly AppSyncs[]): Row[] {
  return apps.flatMap(({ app, connectors }) =>
    (connectors ?? [])
      .map((connector) => ({ app, connector, state: syncState(connector) }))
      .sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state) || nameOf(a.connector).localeCompare(nameOf(b.connector), undefined, { numeric: true })));
}

function matches(row: Row, search: string, only: SyncState | ""): boolean {
  if (only && row.state !== only) return false;
  return contains(`${nameOf(row.app)} ${row.app.id} ${nameOf(row.connector)} ${row.connector.id} ${row.connector.status?.lastError ?? ""}`, search);
}

function contains(text: string, search: string): boolean {
  const low = text.toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => low.includes(word));
}

const lookEveryMs = 5000;

/** Looks at connectors whose sync runs, until it has ended; never at more than a few. */
function useRunning(rows: readonly Row[], syncs: Syncs): void {
  const ids = rows.filter((row) => row.state === "running").slice(0, 10).map((row) => `${row.app.id}/${row.connector.id}`).join(" ");
  useEffect(() => {
    if (ids === "") return;
    let wait = lookEveryMs;
    let timer: ReturnType<typeof setTimeout>;
    let current = true;
    const look = async () => {
      try {
        for (const id of document.hidden ? [] : ids.split(" ")) {
          const [appId = "", connectorId = ""] = id.split("/");
          if (current) await syncs.look(appId, connectorId);
        }
        wait = lookEveryMs;
      } catch {
        wait = Math.min(wait * 2, 60_000); // a limit, or a gateway in trouble: not harder
      }
      if (current) timer = setTimeout(() => void look(), wait);
    };
    timer = setTimeout(() => void look(), wait);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [ids, syncs.look]);
}
