import type { Record as AuditRecord } from "@c1proxy/client/gen/c1proxy/v1/audit_pb";
import { GatewayService } from "@c1proxy/client/gen/c1proxy/v1/gateway_pb";
import { useEffect, useState } from "preact/hooks";
import { useRead } from "../call";
import { adviceFor, titleFor } from "../failure";
import { outcomeWords, recordFacts, useRecords } from "../record";
import { href, navigate } from "../router";
import { useSession } from "../session";
import { Answered, Button, Facts, Failed, Field, Input, LinkButton, Loading, Notice, Section } from "../ui";
import { Explained } from "./access-explained";

/** Finds out from a call's request id why it was refused, or failed. */
export function Why({ requestId }: { requestId: string }) {
  const [id, setId] = useState(requestId);
  const [error, setError] = useState("");
  useEffect(() => setId(requestId), [requestId]);
  return (
    <Section title="Why was I refused?" about="Every answer of c1proxy has an X-Request-Id, which finds its record.">
      <form class="why" onSubmit={(event) => {
        event.preventDefault();
        const wanted = id.trim();
        const problem = wanted === "" ? "Paste a request id." : /^[\x21-\x7e]{1,128}$/.test(wanted) ? "" : "A request id has no spaces and no such characters.";
        setError(problem);
        if (!problem) navigate(href("access", { request_id: wanted }));
      }}>
        <Field label="Request id" hideLabel error={error}>
          <Input mono value={id} placeholder="Request id, such as kx3brmkecktcytbszcpggc4zg4" onInput={(event) => setId(event.currentTarget.value)} />
        </Field>
        <Button type="submit">Explain</Button>
      </form>
      {requestId && <Found key={requestId} requestId={requestId} />}
    </Section>
  );
}

function Found({ requestId }: { requestId: string }) {
  const [looked, again] = useRecords({ requestId }, requestId);
  switch (looked.kind) {
    case "looking":
      return <Loading what="Looking for the record" rows={2} />;
    case "failed":
      return <Failed failure={looked.failure} what="The audit could not be asked" onRetry={again} />;
    case "missing":
      if (looked.records.length > 0) return <Told record={looked.records[0] as AuditRecord} />;
      return (
        <Notice tone="warn" title="There is no such record" actions={<Button onClick={again}>Look again</Button>}>
          The id may be mistyped, of another team’s call, older than the audit is kept, or of a call that another replica of c1proxy answered: each has an audit of its own.
        </Notice>
      );
    case "found":
      return <Told record={looked.records.at(-1) as AuditRecord} />;
  }
}

/** A record in words: what was called, why it was refused, and what to do. */
function Told({ record }: { record: AuditRecord }) {
  const method = record.procedure.replace(/^\//, "");
  const refused = record.kind === "denied";
  const good = record.outcome === "ok" || (record.kind === "outcome" && record.code === "ok");
  return (
    <div class="card stack">
      <Notice tone={good ? "good" : refused ? "warn" : "info"} title={title(record, method)}>
        {!good && <p>{outcomeWords(record)} {adviceFor(record.error, record.code)}</p>}
        {good && <p>{outcomeWords(record)}</p>}
        {record.field && <p>It is about the field <code>{record.field}</code>.</p>}
        {record.detail["rules"] && <p class="small">{record.detail["rules"]}</p>}
      </Notice>
      <Facts facts={[["Method", <code>{method}</code>], ...recordFacts(record).filter(([name]) => name !== "What became of it")]} />
      <div class="row">
        <LinkButton icon="audit" href={href("audit", { request_id: record.requestId })}>Open in the audit</LinkButton>
        {/LIMIT/.test(record.error) && <span class="small">What is left of each limit stands below.</span>}
      </div>
      {method.includes("/") && (refused || record.error.endsWith("DENIED") || record.error === "REASON_REQUIRED") && <PolicyNow method={method} record={record} />}
    </div>
  );
}

function title(record: AuditRecord, method: string): string {
  const name = method.slice(method.lastIndexOf("/") + 1) || "The call";
  if (record.kind === "denied") return `${name} was refused. ${titleFor(record.error, record.code)}`;
  if (record.kind === "intent") return `${name} is under way`;
  return record.code === "ok" || record.outcome === "ok" ? `${name} was not refused: it was done` : `${name} was allowed, but failed. ${titleFor(record.error, record.code)}`;
}


/** What the policy says of the method today; the record keeps no request to decide anew. */
function PolicyNow({ method, record }: { method: string; record: AuditRecord }) {
  const { client, who } = useSession();
  const { state, reload } = useRead((options) => client(GatewayService).explain({ method, reason: record.reason }, options), [method]);
  const own = record.caller === who.caller && record.team === who.team;
  return (
    <section class="stack" aria-label="What the policy says now">
      <h3>What the policy says now{own ? "" : ", of a call of yours"}</h3>
      {state.value && state.value.policyRevision !== record.policyRevision && (
        <p class="small soft">The policy has changed since: then it was revision <code>{record.policyRevision}</code>, now it is <code>{state.value.policyRevision}</code>.</p>
      )}
      <Answered state={state} what="The policy could not be asked" onRetry={reload} rows={2}>
        {(explained) => <Explained explained={explained} />}
      </Answered>
    </section>
  );
}
