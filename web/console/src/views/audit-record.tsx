import { AuditService, type ProveResponse, type Record as AuditRecord } from "@c1proxy/client/gen/c1proxy/v1/audit_pb";
import { useEffect, useState } from "preact/hooks";
import { useCall, useRead } from "../call";
import { asLogged } from "../proof/record";
import { parseProof } from "../proof/text";
import { href } from "../router";
import { useSession } from "../session";
import { Answered, Button, CopyButton, Dialog, Facts, Failed, Loading, Notice, Time, Wrapping } from "../ui";
import { plain, plainJson } from "../ui/text";
import { Proof } from "./audit-proof";
import { procedureName, Result } from "./audit-words";

/** One record in full, its partner, and its proof. */
export function RecordPanel({ seq, row, log, requestId, verifyAtOnce, onClose }: {
  seq: string;
  /** The record as the list has it; without it the record is asked for by its number. */
  row: AuditRecord | undefined;
  /** The log that the list is of, and the call that the address names; each empty if there is none. */
  log: string;
  requestId: string;
  verifyAtOnce: boolean;
  onClose: () => void;
}) {
  const audit = useSession().client(AuditService);
  const { state: proof, run } = useCall<ProveResponse>();
  const [askedAgain, askAgain] = useState(false);
  const number = /^\d{1,19}$/.test(seq) ? BigInt(seq) : 0n;
  const prove = () => void run((options) => audit.prove({ seq: number }, options));
  useEffect(() => {
    if (!row || verifyAtOnce) prove();
  }, []);
  const answer = proof.value;
  const stranger = answer && strangerIn(answer, log, requestId);
  const record = row ?? (stranger ? undefined : answer?.record);
  return (
    <Dialog title={`Record ${seq}`} side onClose={onClose}>
      {stranger && <Stranger what={stranger} busy={proof.kind === "loading"} onAgain={() => { askAgain(true); prove(); }} />}
      {record ? <Whole record={record} /> : proof.kind === "failed" ? <Failed failure={proof.failure} what="The record could not be had" onRetry={prove} /> : !stranger && <Loading what="Reading the record" rows={6} />}
      {record && <Partner record={record} />}
      {record && !stranger && <Proof record={record} proof={proof} onProve={prove} wanted={verifyAtOnce || askedAgain} />}
      {row && stranger && proof.kind === "failed" && <Failed failure={proof.failure} what="No proof could be had" />}
      {record && <AsJson record={record} />}
    </Dialog>
  );
}

/**
 * Why an answer is not about the record that is wanted, if it is not: each replica
 * has a log of its own, and its record of the same number is of another call.
 */
function strangerIn({ record, proof }: ProveResponse, log: string, requestId: string): string | undefined {
  const proven = logOf(proof);
  if (log !== "" && proven !== undefined && proven !== log) return `The answer is of the log ${proven}, and this page shows ${log}.`;
  if (requestId !== "" && record?.requestId !== requestId) return `Record ${record?.seq ?? ""} of ${proven ?? "its log"} is not of the call ${requestId}, which the address names.`;
  return undefined;
}

/** The log that a proof says it is of; undefined if it is none. */
function logOf(proof: string): string | undefined {
  try {
    return parseProof(proof).checkpoint.origin;
  } catch {
    return undefined; // what is wrong with it, its verdict says
  }
}

function Stranger({ what, busy, onAgain }: { what: string; busy: boolean; onAgain: () => void }) {
  return (
    <Notice tone="warn" title="Another replica answered" actions={<Button busy={busy} onClick={onAgain}>Ask again</Button>}>
      {plain(what)} Each replica of c1proxy has a log of its own, with other records of the same numbers. Nothing was verified. If it stays so, open the console at the replica’s own address.
    </Notice>
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
