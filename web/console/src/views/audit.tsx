import { AuditService, type Record as AuditRecord } from "@c1proxy/client/gen/c1proxy/v1/audit_pb";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { href, navigate, useRoute } from "../router";
import { useSession } from "../session";
import { Button, type Column, Empty, Failed, Loading, Notice, Page, Table, Time, useNow, useZone, Wrapping } from "../ui";
import { plain } from "../ui/text";
import { fullTime } from "../ui/time";
import { Feed, type FeedState, type Live, mostRows } from "./audit-feed";
import { badTime, filterOf, leavesOut, readWanted, takesNew, type Wanted, wantedNames } from "./audit-filter";
import { Filters } from "./audit-filters";
import { RecordPanel } from "./audit-record";
import { procedureName, Result, toneOf } from "./audit-words";
import "./audit.css";

/** The audit of the replica that answers: what happened, and what happens. */
export default function AuditView() {
  const { params } = useRoute();
  const key = wantedNames.map((name) => `${name}=${params.get(name) ?? ""}`).join("&");
  const wanted = useMemo(() => readWanted(params), [key]);
  const bad = badTime(wanted);
  const show = (change: Partial<Wanted>) => navigate(href("audit", { ...wanted, ...change }), true);
  return bad
    ? (
      <Page title="Audit">
        <Filters wanted={wanted} allTeams={true} onChange={show} />
        <Notice tone="bad" title="This search cannot be made" actions={<Button onClick={() => show({ last: "", from: "", until: "" })}>Search all times</Button>}>{bad}</Notice>
      </Page>
    )
    : <Log key={key} wanted={wanted} onChange={show} />;
}

function Log({ wanted, onChange }: { wanted: Wanted; onChange: (change: Partial<Wanted>) => void }) {
  const { params } = useRoute();
  const [feed, state] = useFeed(wanted);
  const follows = takesNew(wanted, Date.now());
  const opened = params.get("seq") ?? "";
  const open = (record: AuditRecord) => navigate(href("audit", { ...wanted, seq: String(record.seq) }));
  const columns = useColumns(open, state.allTeams);
  const narrowed = Object.entries(wanted).some(([name, value]) => name !== "calls" && value !== "");
  const { rows } = state;
  return (
    <Page title="Audit" about={<About state={state} />} actions={
      <>
        {follows && <LiveState live={state.live} />}
        {follows && (
          state.live.kind === "paused" || state.live.kind === "off" || state.live.kind === "refused"
            ? <Button onClick={() => feed?.resume()}>Resume</Button>
            : <Button onClick={() => feed?.pause()}>Pause</Button>
        )}
        {!follows && <Button icon="sync" busy={state.loading} onClick={() => void feed?.reload()}>Refresh</Button>}
      </>
    }>
      <Filters wanted={wanted} allTeams={state.allTeams || wanted.team !== ""} onChange={onChange} />
      <Arrivals arrived={state.arrived} />
      {state.failure && <Failed failure={state.failure} what="The records could not be had" onRetry={() => void feed?.reload()} />}
      {state.live.kind === "refused" && !state.failure && (
        <Failed failure={state.live.failure} what="New records cannot be followed" onRetry={() => feed?.resume()} />
      )}
      {state.moved && (
        <Notice tone="warn" title="Another replica answers now">These are the records of {state.log}. What was shown before is in the other replica’s log.</Notice>
      )}
      {rows === undefined && !state.failure && <Loading what="Reading the audit" rows={8} />}
      {rows?.length === 0 && state.older !== "" && !state.failure && (
        <div class="stack">
          <Empty title="None found yet" action={<Button busy={state.loadingOlder} onClick={() => void feed?.loadOlder()}>Search further back</Button>}>
            c1proxy looks for two seconds at a time. What is older was not looked at yet.
          </Empty>
          {state.olderFailure && <Failed failure={state.olderFailure} what="Older records could not be had" />}
        </div>
      )}
      {rows?.length === 0 && state.older === "" && !state.loading && !state.failure && <Nothing narrowed={narrowed} leftOut={leavesOut(wanted)} follows={follows} onAll={() => navigate(href("audit", { calls: "all" }), true)} />}
      {rows !== undefined && rows.length > 0 && (
        <div class="stack audit-rows">
          <Table caption="Records of the audit, the newest first" columns={columns} rows={rows} rowKey={(row) => String(row.seq)} tone={toneOf} onOpen={open} />
          {state.dropped && (
            <p class="muted small">The newest {mostRows} are kept here. <a href={href("audit", { ...wanted, last: "", until: rows.at(-1)?.time ? isoOf(rows.at(-1)) : "" })}>Search the ones before</a></p>
          )}
          {state.olderFailure && <Failed failure={state.olderFailure} what="Older records could not be had" onRetry={() => void feed?.loadOlder()} />}
          <div class="row">
            {state.older !== "" && <Button busy={state.loadingOlder} onClick={() => void feed?.loadOlder()}>Load older records</Button>}
            <span class="muted small">{rows.length} shown{state.older === "" && !state.dropped ? ", which are all" : ""}</span>
          </div>
        </div>
      )}
      {opened !== "" && (
        <RecordPanel key={opened} seq={opened} row={rows?.find((row) => String(row.seq) === opened)} log={state.log} requestId={wanted.request_id} verifyAtOnce={params.get("proof") === "1"}
          onClose={() => navigate(href("audit", { ...wanted }), true)} />
      )}
    </Page>
  );
}

function isoOf(record: AuditRecord | undefined): string {
  return record?.time ? new Date(Number(record.time.seconds) * 1000 + 1000).toISOString() : "";
}

/** The feed of a search, for as long as it is shown. It tells of changes once a frame at most. */
function useFeed(wanted: Wanted): [Feed | undefined, FeedState] {
  const { client: clientOf, refresh } = useSession();
  const client = clientOf(AuditService);
  const feed = useRef<Feed | undefined>(undefined);
  const [state, set] = useState<FeedState>(() => new Feed(client, {}, () => {}).state);
  useEffect(() => {
    let frame = 0;
    const now = Date.now();
    const made = new Feed(client, filterOf(wanted, now), () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        set(made.state);
      });
    }, refresh); // which signs out where the sign-in is over
    feed.current = made;
    made.start(takesNew(wanted, now));
    return () => {
      cancelAnimationFrame(frame);
      made.stop();
    };
  }, [client, wanted]);
  return [feed.current, state];
}

function About({ state }: { state: FeedState }) {
  const { who } = useSession();
  if (state.log === "") return <>What was called through c1proxy, by whom, and what came of it.</>;
  return (
    <>
      The log of this replica, <code>{state.log}</code>: {state.allTeams ? "records of all teams, of strangers, and of the log itself." : `records of your own team, ${who.team}.`}
    </>
  );
}

/** Whether new records come, in words. */
function LiveState({ live }: { live: Live }) {
  const now = useNow(1000);
  const [tone, words] = ((): [string, string] => {
    switch (live.kind) {
      case "live":
        return ["good", "Live"];
      case "connecting":
        return ["info", "Connecting…"];
      case "waiting":
        return ["warn", `Interrupted: again in ${Math.max(1, Math.ceil((live.at - now) / 1000))} s`];
      case "refused":
        return ["bad", "Not live"];
      case "paused":
        return ["", "Paused"];
      default:
        return ["", "Not live"];
    }
  })();
  return (
    <span class={`badge live ${tone}`} data-live={live.kind}>
      {words}
      <span class="visually-hidden" role="status">{live.kind === "waiting" ? "The live tail was interrupted and is tried again." : live.kind === "live" ? "New records appear as they come." : ""}</span>
    </span>
  );
}

/** Says to screen readers how many records have come, every ten seconds at most. */
function Arrivals({ arrived }: { arrived: number }) {
  const latest = useRef(arrived);
  latest.current = arrived;
  const said = useRef(0);
  const [words, say] = useState("");
  useEffect(() => {
    const timer = setInterval(() => {
      const fresh = latest.current - said.current;
      said.current = latest.current;
      say(fresh === 0 ? "" : fresh === 1 ? "1 new record" : `${fresh} new records`);
    }, 10_000);
    return () => clearInterval(timer);
  }, []);
  return <p class="visually-hidden" role="status">{words}</p>;
}

function Nothing({ narrowed, leftOut, follows, onAll }: { narrowed: boolean; leftOut: boolean; follows: boolean; onAll: () => void }) {
  if (!narrowed && leftOut) {
    return (
      <Empty title="No calls to C1 yet" action={<Button onClick={onAll}>Show all records</Button>}>
        {follows ? "One that comes appears here, also a refused one. " : ""}Calls to c1proxy’s own API, such as those of this page, are not shown.
      </Empty>
    );
  }
  if (!narrowed) return <Empty title="No records yet">Each call through c1proxy has a record here, also a refused one. This page shows it as it comes.</Empty>;
  return (
    <Empty title="No record matches" action={<Button onClick={onAll}>Show all records</Button>}>
      {follows ? "One that comes and matches appears here. " : ""}Another replica of c1proxy has a log of its own, and may have the call.
    </Empty>
  );
}

function useColumns(open: (record: AuditRecord) => void, allTeams: boolean): Column<AuditRecord>[] {
  const [zone] = useZone();
  const today = fullTime(new Date(), zone).slice(0, 10);
  return [
    {
      title: "Time",
      cell: (row) => {
        const date = row.time && new Date(Number(row.time.seconds) * 1000);
        return <span class="nowrap"><Time of={row.time} show={date && fullTime(date, zone).startsWith(today) ? "clock" : "full"} /></span>;
      },
    },
    { title: "Who", cell: (row) => <Who record={row} team={allTeams} /> },
    {
      title: "Method",
      head: true,
      cell: (row) => (
        <button type="button" class="link-button mono" title={row.procedure || undefined} onClick={() => open(row)}>
          <Wrapping of={row.kind === "event" ? row.event : procedureName(row.procedure) || "no method"} />
        </button>
      ),
    },
    { title: "Result", cell: (row) => <Result record={row} /> },
    { title: "Reason", grow: true, cell: (row) => <span class="audit-reason">{plain(row.reason) || (row.error ? <code>{row.error}</code> : <span class="muted">none</span>)}</span> },
  ];
}


function Who({ record, team }: { record: AuditRecord; team: boolean }) {
  if (record.kind === "event") return <span class="muted">the log</span>;
  if (!record.caller) return <span><span class="muted">unknown</span>{record.peer && <span class="muted small"> {record.peer}</span>}</span>;
  return <span class="audit-who">{record.caller}{team && record.team && <span class="muted small"> {record.team}</span>}</span>;
}
