import { AuditService, type Record as AuditRecord, type RecordFilterSchema } from "@c1proxy/client/gen/c1proxy/v1/audit_pb";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { useEffect, useState } from "preact/hooks";
import { type Failure, failureOf } from "./failure";
import { href } from "./router";
import { useSession } from "./session";
import { Button, CopyButton, Facts, Failed, Loading, LinkButton, Notice, Time } from "./ui";

type Filter = MessageInitShape<typeof RecordFilterSchema>;

/** The state of looking for a call's records. */
export type Looked =
  | { readonly kind: "looking" }
  /** The records of the call, the first first. */
  | { readonly kind: "found"; readonly records: readonly AuditRecord[]; readonly log: string }
  /** None is there, or not all yet. */
  | { readonly kind: "missing"; readonly records: readonly AuditRecord[] }
  | { readonly kind: "failed"; readonly failure: Failure };

/** How long a record that is not there yet is looked for: it is on disk in about a second. */
const patience = 8000;

/**
 * The audit's records of one call, looked for until what became of it is there.
 * again looks anew.
 */
export function useRecords(filter: Filter, key: string): [Looked, again: () => void] {
  const audit = useSession().client(AuditService);
  const [looked, set] = useState<Looked>({ kind: "looking" });
  const [round, setRound] = useState(0);
  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const until = Date.now() + patience;
    set({ kind: "looking" });
    const look = async (wait: number) => {
      try {
        const { records, log } = await audit.query({ filter, pageSize: 20 }, { signal });
        if (signal.aborted) return;
        const ordered = [...records].sort((a, b) => (a.seq < b.seq ? -1 : 1));
        if (ordered.some((record) => record.kind !== "intent")) set({ kind: "found", records: ordered, log });
        else if (Date.now() > until) set({ kind: "missing", records: ordered });
        else timer = setTimeout(() => void look(Math.min(wait * 1.5, 3000)), wait);
      } catch (thrown) {
        if (!signal.aborted) set({ kind: "failed", failure: failureOf(thrown) });
      }
    };
    void look(400);
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [audit, key, round]);
  return [looked, () => setRound(round + 1)];
}

/** The audit's record of a call, as soon as it is there, and where to find it and its proof. */
export function RecordOf({ filter, name }: { filter: Filter; name: string }) {
  const [looked, again] = useRecords(filter, name);
  switch (looked.kind) {
    case "looking":
      return <Loading what="Looking for the record" rows={2} />;
    case "failed":
      return <Failed failure={looked.failure} what="The audit could not be asked" onRetry={again} />;
    case "missing":
      return (
        <Notice tone="warn" title={looked.records.length > 0 ? "The call is on record, but not yet what became of it" : "No record of the call is there"}
          actions={<Button onClick={again}>Look again</Button>}>
          {looked.records.length > 0
            ? "It may still be under way."
            : "Nothing came to this replica of c1proxy. Where there are several, another one may have it: each has an audit of its own."}
        </Notice>
      );
    case "found": {
      const record = looked.records.at(-1) as AuditRecord;
      return (
        <div class="stack">
          <Facts facts={recordFacts(record)} />
          <div class="row">
            <LinkButton icon="audit" href={href("audit", { request_id: record.requestId })}>Open in the audit</LinkButton>
            <LinkButton icon="check" href={href("audit", { request_id: record.requestId, seq: String(record.seq), proof: "1" })}>Verify its proof</LinkButton>
          </div>
        </div>
      );
    }
  }
}

/** What a record says, for people. */
export function recordFacts(record: AuditRecord): (readonly [string, preact.ComponentChildren])[] {
  return [
    ["Record", <>No. {String(record.seq)}, <Time of={record.time} show="full" /></>],
    ["Who", `${record.team ? `${record.team}/` : ""}${record.caller || "unknown"}`],
    ["What became of it", outcomeWords(record)],
    ["Reason stated", record.reason],
    ["Rule", record.rule && <code>{record.rule}</code>],
    ["Request id", <><code>{record.requestId}</code> <CopyButton text={record.requestId} what="request id" /></>],
  ];
}

const outcomes: Readonly<Record<string, string>> = {
  ok: "It was done.",
  failed: "It was not done.",
  indeterminate: "It may have been done: nobody knows but C1.",
  not_sent: "It was not sent to C1.",
};

/** What became of a record's call, in a sentence. */
export function outcomeWords(record: AuditRecord): string {
  if (record.kind === "denied") return `It was refused${record.error ? ` (${record.error})` : ""}, and never sent to C1.`;
  if (record.kind === "intent") return "It is under way.";
  const words = outcomes[record.outcome] ?? record.outcome;
  return record.error ? `${words} (${record.code}, ${record.error})` : words;
}
