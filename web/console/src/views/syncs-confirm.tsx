import type { App, Connector } from "@c1proxy/client/gen/c1/api/app/v1/app_pb";
import { useEffect, useRef, useState } from "preact/hooks";
import { reasonBytes, reasonLimit } from "../api";
import { Code } from "@connectrpc/connect";
import { useSession } from "../session";
import { RecordOf } from "../record";
import { Badge, Button, CopyButton, Dialog, Facts, Failed, Field, Input, Notice, TextArea, Time } from "../ui";
import { useUnderWay } from "../under-way";
import { type Attempt, confirm, confirmMethod, forget, useAttempt } from "./syncs-attempt";
import { plain, typed } from "../ui/text";
import { nameOf, proposedSyncId, syncState, syncStates } from "./syncs-data";

/**
 * The dialog in which a sync is confirmed: what it means, the form, and then what
 * became of it. look asks C1 for the connector.
 */
export function ConfirmDialog({ app, connector, look, onClose }: {
  app: App;
  connector: Connector;
  look: () => Promise<Connector | undefined>;
  onClose: () => void;
}) {
  const attempt = useAttempt();
  const mine = attempt?.subject.connectorId === connector.id && attempt.subject.appId === app.id ? attempt : undefined;
  const sending = mine?.outcome.kind === "sending";
  const other = useUnderWay(confirmMethod) && !sending;
  const close = () => {
    if (mine) forget();
    onClose();
  };
  return (
    <Dialog title={mine && !sending ? "What became of it" : `Confirm the sync of ${nameOf(connector)}`} onClose={close} locked={sending}>
      {other && <Notice tone="warn" title="Another confirmation is under way">Wait until it is answered: one is sent at a time.</Notice>}
      {!other && (!mine || sending) && <ConfirmForm app={app} connector={connector} sending={sending} onCancel={close} />}
      {mine && !sending && <Became attempt={mine} connector={connector} look={look} onAnother={forget} onClose={close} />}
    </Dialog>
  );
}

interface Problems {
  syncId?: string;
  reason?: string;
  name?: string;
}

function ConfirmForm({ app, connector, sending, onCancel }: { app: App; connector: Connector; sending: boolean; onCancel: () => void }) {
  const session = useSession();
  const proposed = proposedSyncId(connector);
  const [syncId, setSyncId] = useState(proposed);
  const [reason, setReason] = useState("");
  const [name, setName] = useState("");
  const [problems, setProblems] = useState<Problems>({});
  const form = useRef<HTMLFormElement>(null);
  const wanted = nameOf(connector);
  const bytes = reasonBytes(reason.trim());
  const lost = syncState(connector) === "lost";

  // The first field that is wrong takes the focus, once it is marked.
  useEffect(() => {
    form.current?.querySelector<HTMLElement>("[aria-invalid]")?.focus();
  }, [problems]);

  const submit = (event: Event) => {
    event.preventDefault();
    if (sending) return;
    const found: Problems = {};
    if (!/^[A-Za-z0-9_.-]{1,128}$/.test(syncId.trim())) found.syncId = syncId.trim() ? "A sync’s id has letters, digits, - _ and . alone." : "Say which sync it is.";
    if (bytes === 0) found.reason = "Say why. It stands in the audit for those who ask later.";
    else if (bytes > reasonLimit) found.reason = `It is ${bytes - reasonLimit} bytes too long.`;
    if (typed(name) !== typed(wanted)) found.name = name ? `This is not the name: it is “${wanted}”.` : "Type the connector’s name.";
    setProblems(found);
    if (Object.keys(found).length > 0) return;
    void confirm(session, {
      appId: app.id, appName: nameOf(app), connectorId: connector.id, connectorName: wanted, syncId: syncId.trim(),
    }, reason.trim());
  };

  return (
    <form class="stack" ref={form} onSubmit={submit} noValidate>
      <Facts facts={[
        ["App", nameOf(app)],
        ["Connector", <><bdi>{wanted}</bdi> <span class="muted mono small">{connector.id}</span></>],
        ["Last sync", connector.status && (
          <>
            <Badge tone={syncStates[syncState(connector)][1]}>{syncStates[syncState(connector)][0]}</Badge>{" "}
            {connector.status.completedAt && <>ended <Time of={connector.status.completedAt} show="full" /></>}
          </>
        )],
        ["C1’s error", connector.status?.lastError && (
          <>{plain(connector.status.lastError)} <CopyButton text={connector.status.lastError} what="error text" /></>
        )],
      ]} />
      {!lost && (
        <Notice tone="warn" title="C1’s error does not say that data was lost">
          C1 confirms a sync only if most of its data was gone (ERRORED_NO_DATA), and refuses it otherwise. Another error is not mended by this.
        </Notice>
      )}
      <div class="consequences">
        <h3>What will happen</h3>
        <ul>
          <li>You tell C1 that the sync is <strong>right, although most of the data of the one before is gone</strong>.</li>
          <li>C1 starts a new sync, and takes what it finds as the truth: what is missing goes from C1’s picture of <bdi>{nameOf(app)}</bdi>, with its accounts and their access.</li>
          <li>Access reviews, requests and revocations go by that picture. Who has access that C1 does not see is not reviewed, and it is not taken back.</li>
          <li><strong>It cannot be undone here.</strong> If the data is missing by mistake (a credential that expired, a right that was taken away), mend that instead and let the connector sync again.</li>
        </ul>
      </div>
      <Field label="Sync" error={problems.syncId} hint={proposed && syncId === proposed
        ? "Taken from C1’s error text: check that it is the sync that you mean."
        : "The lifecycle id of the most recent completed sync. C1’s API does not list it: copy it from the connector’s page or the notification in C1."}>
        <Input mono value={syncId} disabled={sending} onInput={(event) => setSyncId(event.currentTarget.value)} />
      </Field>
      <Field label="Reason" error={problems.reason}
        hint={<>Who looks at the audit sees it. <span class={bytes > reasonLimit ? "over" : undefined}>{bytes} of {reasonLimit} bytes</span></>}>
        <TextArea value={reason} disabled={sending} placeholder="Such as: 300 contractors left on 1 May, HR-1042" onInput={(event) => setReason(event.currentTarget.value)} />
      </Field>
      <Field label={<>Type the connector’s name: <strong class="select-none">{wanted}</strong></>} error={problems.name}>
        <Input value={name} disabled={sending} onInput={(event) => setName(event.currentTarget.value)} />
      </Field>
      <div class="dialog-actions">
        <Button onClick={onCancel} disabled={sending}>Cancel</Button>
        <Button kind="danger" type="submit" busy={sending}>{sending ? "Confirming" : "Confirm this sync"}</Button>
      </div>
      <p class="visually-hidden" role="status">{sending ? "Sent to C1. Waiting for its answer." : ""}</p>
    </form>
  );
}

/** What became of a confirmation: in words, the sync as C1 has it now, and the record. */
function Became({ attempt, connector, look, onAnother, onClose }: {
  attempt: Attempt;
  connector: Connector;
  look: () => Promise<Connector | undefined>;
  onAnother: () => void;
  onClose: () => void;
}) {
  const { outcome } = attempt;
  const heading = useRef<HTMLDivElement>(null);
  useEffect(() => heading.current?.focus(), []);
  return (
    <div class="stack" ref={heading} tabIndex={-1}>
      <OutcomeNotice attempt={attempt} />
      {outcome.kind !== "refused" && (
        <section class="stack" aria-label="The sync now">
          <h3>The sync now</h3>
          <SyncNow connector={connector} look={look} />
        </section>
      )}
      <section class="stack" aria-label="The record">
        <h3>On record</h3>
        <RecordOf filter={{ clientRequestId: attempt.clientRequestId }} name={attempt.clientRequestId} />
      </section>
      <div class="dialog-actions">
        {outcome.kind === "refused" && <Button onClick={onAnother}>Back to the form</Button>}
        <Button kind="primary" onClick={onClose}>Close</Button>
      </div>
    </div>
  );
}

/** The outcome of a confirmation in words. */
export function OutcomeNotice({ attempt }: { attempt: Attempt }) {
  const { outcome, subject } = attempt;
  switch (outcome.kind) {
    case "sending":
      return <Notice title={`The sync of ${subject.connectorName} is being confirmed`}>C1 has not answered yet.</Notice>;
    case "ok":
      return (
        <Notice tone="good" title="Confirmed">
          C1 took the sync of <bdi>{subject.connectorName}</bdi> (<bdi>{subject.appName}</bdi>) as right, and starts a new one.
        </Notice>
      );
    case "unclear":
      return (
        <Notice tone="warn" title="It may have been confirmed">
          <p>
            {outcome.failure
              ? `No clear answer came: ${plain(outcome.failure.message)}.`
              : "The page was left before the answer came."}{" "}
            It is not sent again by itself. Look at the sync’s status and at the record before anything else: if the sync runs, it was confirmed.
          </p>
          {outcome.failure?.requestId && <p class="trace">request <code>{outcome.failure.requestId}</code></p>}
        </Notice>
      );
    case "refused": {
      const { failure } = outcome;
      if (failure.code === Code.FailedPrecondition) {
        return (
          <Notice tone="warn" title="Not confirmed: the sync does not wait for it">
            <p>It was confirmed already, a newer sync has run, or it failed for another reason. Nothing has changed.</p>
            <p class="trace">{plain(failure.message)}</p>
          </Notice>
        );
      }
      if (failure.code === Code.NotFound) {
        return (
          <Notice tone="warn" title="Not confirmed: C1 does not know this sync">
            <p>Check the sync’s id: it is that of the most recent completed sync of this connector. Nothing has changed.</p>
            <p class="trace">{plain(failure.message)}</p>
          </Notice>
        );
      }
      return <Failed failure={failure} what="Not confirmed" />;
    }
  }
}

/** The status of a connector's sync, looked at until it has come to an end. */
function SyncNow({ connector, look }: { connector: Connector; look: () => Promise<Connector | undefined> }) {
  const [asked, setAsked] = useState<"asking" | "known" | "failed">("asking");
  const [round, setRound] = useState(0);
  useEffect(() => {
    let current = true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const until = Date.now() + 300_000;
    const ask = async () => {
      try {
        const now = await look();
        if (!current) return;
        setAsked("known");
        if (now && syncState(now) === "running" && Date.now() < until) timer = setTimeout(() => void ask(), 3000);
      } catch {
        if (current) setAsked("failed");
      }
    };
    void ask();
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [look, round]);
  const [words, tone] = syncStates[syncState(connector)];
  return (
    <div class="row between">
      <span role="status">
        {asked === "asking" && "Asking C1…"}
        {asked === "failed" && "C1 did not say. "}
        {asked === "known" && <Badge tone={tone}>{words}</Badge>}
        {asked === "known" && connector.status?.lastError && <> <bdi>{plain(connector.status.lastError)}</bdi></>}
      </span>
      <Button kind="quiet" icon="sync" onClick={() => setRound(round + 1)}>Look again</Button>
    </div>
  );
}
