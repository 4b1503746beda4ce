import { useEffect, useState } from "preact/hooks";
import { Button, Checkbox, Field, Input, Select, useZone } from "../ui";
import type { Zone } from "../ui/time";
import { leavesOut, mayLeaveOut, presets, type Wanted } from "./audit-filter";

const empty: Wanted = { last: "", from: "", until: "", team: "", caller: "", method: "", outcome: "", kind: "", request_id: "", intent: "", error: "", value: "", calls: "" };

/** What narrows the records. A text counts when it is left, or at Enter. */
export function Filters({ wanted, allTeams, onChange }: { wanted: Wanted; allTeams: boolean; onChange: (change: Partial<Wanted>) => void }) {
  const [zone] = useZone();
  const [custom, setCustom] = useState(wanted.from !== "" || wanted.until !== "");
  const rare = [wanted.kind, wanted.request_id, wanted.value, wanted.error, wanted.intent, wanted.team].filter(Boolean).length;
  const [more, setMore] = useState(rare > 0);
  const narrowed = Object.values(wanted).some(Boolean);
  const text = (name: keyof Wanted, label: string, placeholder: string) => (
    <Field label={label}><Draft value={wanted[name]} placeholder={placeholder} onChange={(value) => onChange({ [name]: value })} /></Field>
  );
  return (
    <form class="card audit-filters" role="search" aria-label="Search the audit" onSubmit={(event) => event.preventDefault()}>
      <div class="filters">
        <Field label="Time">
          <Select value={custom ? "custom" : wanted.last} onChange={({ currentTarget: { value } }) => {
            setCustom(value === "custom");
            if (value !== "custom") onChange({ last: value, from: "", until: "" });
          }}>
            <option value="">All</option>
            {Object.entries(presets).map(([name, [title]]) => <option key={name} value={name}>{title}</option>)}
            <option value="custom">From and until…</option>
          </Select>
        </Field>
        {custom && (
          <>
            <TimeField label="From" zone={zone} value={wanted.from} onChange={(from) => onChange({ last: "", from })} />
            <TimeField label="Until" zone={zone} value={wanted.until} onChange={(until) => onChange({ last: "", until })} />
          </>
        )}
        {text("method", "Method", "ConnectorService/*")}
        {text("caller", "Caller", "name")}
        <Field label="Outcome">
          <Select value={wanted.outcome} onChange={({ currentTarget: { value } }) => onChange({ outcome: value })}>
            <option value="">Any</option>
            <option value="ok">Done</option>
            <option value="failed">Failed</option>
            <option value="indeterminate">Unknown</option>
            <option value="not_sent">Not sent</option>
          </Select>
        </Field>
        <div class="row">
          <Button kind="quiet" aria-expanded={more} onClick={() => setMore(!more)}>{more ? "Fewer" : "More"}</Button>
          {narrowed && <Button kind="quiet" onClick={() => { setCustom(false); onChange(empty); }}>Clear</Button>}
        </div>
      </div>
      {mayLeaveOut(wanted) && (
        <Checkbox checked={leavesOut(wanted)} onChange={({ currentTarget: { checked } }) => onChange({ calls: checked ? "" : "all" })}>
          Hide calls to c1proxy’s own API
        </Checkbox>
      )}
      {more && (
        <div class="filters">
          {allTeams && text("team", "Team", "name")}
          <Field label="Kind">
            <Select value={wanted.kind} onChange={({ currentTarget: { value } }) => onChange({ kind: value })}>
              <option value="">Any</option>
              <option value="intent">Intents: about to be sent</option>
              <option value="outcome">Outcomes</option>
              <option value="denied">Refusals</option>
              <option value="event">Events of the log</option>
            </Select>
          </Field>
          {text("request_id", "Request id", "X-Request-Id")}
          {text("value", "Value", "app_id=… or any value")}
          {text("error", "Error", "METHOD_DENIED")}
          {wanted.intent !== "" && text("intent", "Intent", "id")}
        </div>
      )}
    </form>
  );
}

/** An input whose value counts when it is left, or at Enter. */
function Draft({ value, placeholder, onChange }: { value: string; placeholder: string; onChange: (value: string) => void }) {
  const [draft, set] = useState(value);
  useEffect(() => set(value), [value]);
  return (
    <Input value={draft} placeholder={placeholder} onInput={(event) => set(event.currentTarget.value)}
      onChange={(event) => onChange(event.currentTarget.value.trim())}
      onKeyDown={(event) => event.key === "Enter" && onChange(event.currentTarget.value.trim())} />
  );
}

function TimeField({ label, zone, value, onChange }: { label: string; zone: Zone; value: string; onChange: (value: string) => void }) {
  return (
    <Field label={`${label} (${zone === "utc" ? "UTC" : "local time"})`}>
      <Input type="datetime-local" step={1} value={toInput(value, zone)} onChange={(event) => onChange(fromInput(event.currentTarget.value, zone))} />
    </Field>
  );
}

function toInput(value: string, zone: Zone): string {
  const ms = Date.parse(value);
  if (Number.isNaN(ms)) return "";
  const offset = zone === "utc" ? 0 : new Date(ms).getTimezoneOffset() * 60_000;
  return new Date(ms - offset).toISOString().slice(0, 19);
}

function fromInput(value: string, zone: Zone): string {
  const ms = value === "" ? NaN : Date.parse(zone === "utc" ? `${value}Z` : value);
  return Number.isNaN(ms) ? "" : new Date(ms).toISOString().replace(".000Z", "Z");
}
