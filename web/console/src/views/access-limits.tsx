import { durationMs } from "@bufbuild/protobuf/wkt";
import { GatewayService, type Limit } from "@c1proxy/client/gen/c1proxy/v1/gateway_pb";
import { useEffect } from "preact/hooks";
import { useRead } from "../call";
import { useSession } from "../session";
import { Answered, Badge, Button, type Column, Empty, Section, Table, Time } from "../ui";

/** How often the levels are asked for, while the page is in sight. */
const everyMs = 5000;

/** The caller's limits and their levels, as they change. */
export function Limits() {
  const { client } = useSession();
  const { state, reload } = useRead((options) => client(GatewayService).limits({}, options), [client]);
  const failed = state.kind === "failed";
  useEffect(() => {
    if (failed) return;
    const timer = setInterval(() => {
      if (!document.hidden) reload();
    }, everyMs);
    return () => clearInterval(timer);
  }, [reload, failed]);
  return (
    <Section title="Your limits" about="All of them hold at once. Looking is a call, which the limits on all methods count."
      actions={<Button kind="quiet" icon="sync" onClick={reload}>Refresh<span class="visually-hidden"> the limits</span></Button>}>
      <Answered state={state} what="The limits could not be had" onRetry={reload} rows={2}>
        {({ limits, shared, time }) => limits.length === 0
          ? <Empty title="No limits">Nothing but c1proxy’s own size limits how often you call.</Empty>
          : (
            <div class="stack">
              <Table caption="Your limits" columns={columns} rows={limits} rowKey={(limit) => limit.name} />
              <p class="muted small">
                {shared
                  ? "The levels are those of all replicas of c1proxy together."
                  : "The levels are those of the replica that answered, and of no other: where there are several, each counts by itself."}
                {" "}As of <Time of={time} show="clock" />, by c1proxy’s clock.
              </p>
            </div>
          )}
      </Answered>
    </Section>
  );
}

const columns: readonly Column<Limit>[] = [
  {
    title: "Limit",
    head: true,
    cell: (limit) => (
      <span class="limit-name">
        <span>{scopeWords(limit)}{limit.shadow && <> <Badge tone="info">In shadow</Badge></>}</span>
        <span class="muted mono">{limit.name}</span>
      </span>
    ),
  },
  { title: "Allows", cell: (limit) => allows(limit) },
  { title: "Left now", grow: true, cell: (limit) => <Level limit={limit} /> },
];

const scopes: Readonly<Record<string, string>> = {
  caller: "You",
  team: "Your team",
  tenant: "All teams of the tenant",
};

function scopeWords(limit: Limit): string {
  const whose = scopes[limit.scope] ?? limit.scope;
  return limit.methods.length > 0 ? `${whose}, on ${limit.methods.join(", ")}` : whose;
}

function allows(limit: Limit): string {
  const rate = limit.rate > 0n ? `${number(limit.rate)} per ${period(limit)}, ${number(limit.burst)} at once` : "";
  const flight = limit.maxInFlight > 0n ? `${number(limit.maxInFlight)} under way` : "";
  return [rate, flight].filter(Boolean).join("; ");
}

function period(limit: Limit): string {
  const ms = limit.per ? durationMs(limit.per) : 1000;
  if (ms % 3_600_000 === 0) return ms === 3_600_000 ? "hour" : `${ms / 3_600_000} hours`;
  if (ms % 60_000 === 0) return ms === 60_000 ? "minute" : `${ms / 60_000} minutes`;
  return ms === 1000 ? "second" : `${ms / 1000} seconds`;
}

function Level({ limit }: { limit: Limit }) {
  const left = Number(limit.remaining);
  const most = Number(limit.burst);
  const reset = limit.resetAfter ? durationMs(limit.resetAfter) / 1000 : 0;
  return (
    <div class="levels">
      {limit.rate > 0n && (
        <div class="level">
          <meter min={0} max={most} low={most * 0.1} high={most * 0.5} optimum={most} value={left} aria-label={`Calls left of ${scopeWords(limit)}`} />
          <span>
            {number(limit.remaining)} of {number(limit.burst)}
            {left < most && reset >= 0.1 && <span class="muted"> full in {reset < 10 ? reset.toFixed(1) : Math.ceil(reset)} s</span>}
          </span>
        </div>
      )}
      {limit.maxInFlight > 0n && (
        <div class="level">
          <meter min={0} max={Number(limit.maxInFlight)} high={Number(limit.maxInFlight) * 0.9} optimum={0} value={Number(limit.inFlight)} aria-label={`Calls under way of ${scopeWords(limit)}`} />
          <span>{number(limit.inFlight)} of {number(limit.maxInFlight)} under way</span>
        </div>
      )}
    </div>
  );
}

const format = new Intl.NumberFormat("en");

function number(n: bigint): string {
  return format.format(n);
}
