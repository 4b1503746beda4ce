import { AuditService, type ProveResponse, type Record as AuditRecord } from "@c1proxy/client/gen/c1proxy/v1/audit_pb";
import { useEffect } from "preact/hooks";
import { useCall, useRead } from "../call";
import { asLogged } from "../proof/record";
import { href } from "../router";
import { useSession } from "../session";
import { Answered, Button, CopyButton, Dialog, Facts, Failed, Loading, Time, Wrapping } from "../ui";
import { plain, plainJson } from "../ui/text";
import { Proof } from "./audit-proof";
import { procedureName, Result } from "./audit-words";

/**
 * One record in full, its partner, and its proof. row is the record as the list
 * has it; without it the record is asked for by its number.
 */
export function RecordPanel({ seq, row, verifyAtOnce, onClose }: { seq: string; row: AuditRecord | undefined; verifyAtOnce: boolean; onClose: () => void }) {
  const audit = useSession().client(AuditService);
  const { state: proof, run } = useCall<ProveResponse>();
  const number = /^\d{1,19}$/.test(seq) ? BigInt(seq) : 0n;
  const prove = () => void run((options) => audit.prove({ seq: number }, options));
  useEffect(() => {
    if (!row || verifyAtOnce) prove();
  }, []);
  const record = row ?? proof.value?.record;
  return (
    <Dialog title={`Record ${seq}`} side onClose={onClose}>
      {record ? <Whole record={record} /> : proof.kind === "failed" ? <Failed failure={proof.failure} what="The record could not be had" onRetry={prove} /> : <Loading what="Reading the record" rows={6} />}
      {record && <Partner record={record} />}
      {record && <Proof record={record} proof={proof} onProve={prove} wanted={verifyAtOnce} />}
      {record && <AsJson record={record} />}
    </Dialog>
  );
}

function Whole({ record }: { record: AuditRecord }) {
  const { duration } = record;
  return (
    <div class="stack">
      <div class="row">
        <Result record={record} />
        <strong class="mono"><Wrapping of={record.kind === "event" ? record.event : procedureName(record.procedure)} /></strong>
      </div>
      <Facts facts={[
        ["Time", <Time of={record.time} show="full" />],
        ["Kind", record.kind],
        ["Caller", record.caller || (record.kind === "event" ? "" : <span class="muted">unknown</span>)],
        ["Team", record.team],
        ["Tenant", record.tenant],
        ["Reason stated", record.reason],
        ["Error", record.error && <code>{record.error}</code>],
        ["Field", record.field && <code>{record.field}</code>],
        ["Code answered", record.code && <code>{record.code}</code>],
        ["Outcome", record.outcome],
        ["Method", record.procedure && <code>{record.procedure}</code>],
        ...record.path.map(({ name, value }) => [plain(name), <code>{plain(value)}</code>] as const),
        ...record.request.map(({ name, value }) => [plain(name), <code>{plain(value)}</code>] as const),
        ["Rule", record.rule && <code>{record.rule}</code>],
        ["Policy revision", record.policyRevision && <code>{record.policyRevision}</code>],
        ["Credential", record.credential && <code>{record.credential}</code>],
        ["Door", record.door],
        ["Address", record.peer && <code>{record.peer}</code>],
        ["Sent to C1 as", record.upstreamCredential && <code>{record.upstreamCredential}</code>],
        ["C1’s HTTP status", record.upstreamStatus || ""],
        ["Exchanges with C1", record.attempts.length > 0 && record.attempts.map((status) => status || "no answer").join(", ")],
        ["Took", duration && `${Math.round(Number(duration.seconds) * 1e6 + duration.nanos / 1e3) / 1e3} ms`],
        ["Caller left before", record.clientGone && "yes"],
        ...Object.entries(record.detail).map(([name, value]) => [plain(name), <code>{plain(value)}</code>] as const),
        ["Cut short", record.truncated.join(", ")],
        ["Request id", record.requestId && <Named id={record.requestId} what="request id" />],
        ["Caller’s own id", record.clientRequestId && <Named id={record.clientRequestId} what="caller’s id" />],
        ["Record id", <Named id={record.id} what="record id" />],
      ]} />
      {record.kind === "denied" && record.requestId && <p><a href={href("access", { request_id: record.requestId })}>Why was it refused?</a></p>}
    </div>
  );
}

function Named({ id, what }: { id: string; what: string }) {
  return <><code>{plain(id)}</code><CopyButton text={id} what={what} /></>;
}

/** The other record of the same call: of an intent its outcome, of an outcome its intent. */
function Partner({ record }: { record: AuditRecord }) {
  const intent = record.kind === "intent" ? record.id : record.intent;
  return intent === "" ? null : <PartnerOf record={record} intent={intent} />;
}

function PartnerOf({ record, intent }: { record: AuditRecord; intent: string }) {
  const audit = useSession().client(AuditService);
  const { state, reload } = useRead(
    async (options) => (await audit.query({ filter: { intent }, pageSize: 10 }, options)).records.filter((one) => one.seq !== record.seq),
    [intent],
  );
  return (
    <section class="stack" aria-label="The same call">
      <h3>{record.kind === "intent" ? "What became of it" : "What was asked before"}</h3>
      <Answered state={state} what="The other record could not be had" onRetry={reload} rows={1}>
        {(records) => records.length === 0
          ? (
            <div class="row">
              <span class="muted">{record.kind === "intent" ? "Not known yet: the call is under way." : "Its intent is not in this log any more."}</span>
              {record.kind === "intent" && <Button onClick={reload}>Look again</Button>}
            </div>
          )
          : (
            <ul class="audit-partners">
              {records.map((one) => (
                <li key={String(one.seq)}>
                  <Result record={one} />
                  <a href={href("audit", { intent, seq: String(one.seq) })}>Open {one.kind === "intent" ? "its intent" : "its outcome"}, record {String(one.seq)}</a>
                  <Time of={one.time} show="clock" />
                </li>
              ))}
            </ul>
          )}
      </Answered>
    </section>
  );
}

function AsJson({ record }: { record: AuditRecord }) {
  const json = plainJson(JSON.stringify(asLogged(record), null, 2));
  return (
    <details class="audit-json">
      <summary>As JSON</summary>
      <div class="stack">
        <div class="row"><CopyButton text={json} what="JSON" label="Copy JSON" /></div>
        <pre class="code" tabIndex={0}>{json}</pre>
      </div>
    </details>
  );
}
