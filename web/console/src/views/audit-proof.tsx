import type { ProveResponse, Record as AuditRecord } from "@c1proxy/client/gen/c1proxy/v1/audit_pb";
import { useEffect, useRef, useState } from "preact/hooks";
import type { CallState } from "../call";
import { loadPins, type Pin, removePin, savePin } from "../proof/pin";
import { asLogged, type ProvenRecord } from "../proof/record";
import { MalformedError, parseVerifierKey } from "../proof/text";
import { incapable, type CannotVerify, type Verdict, verifyProof } from "../proof/verify";
import { Button, Checkbox, CopyButton, Failed, Field, Loading, Notice, TextArea } from "../ui";
import { plain, plainJson } from "../ui/text";

/** The pinned keys; undefined until they are read. */
function usePins(): [readonly Pin[] | undefined, () => void] {
  const [pins, set] = useState<readonly Pin[] | undefined>(undefined);
  const [round, again] = useState(0);
  useEffect(() => {
    void loadPins().then(set, () => set([]));
  }, [round]);
  return [pins, () => again(round + 1)];
}

/** What this browser cannot do, if it cannot verify. */
function useIncapable(): CannotVerify | undefined {
  const [unable, set] = useState<CannotVerify | undefined>(undefined);
  useEffect(() => {
    void incapable().then(set);
  }, []);
  return unable;
}

/**
 * Verifies in this browser that a record is in the log, by a key that the user has
 * pinned. What the server says of its key is a hint and no more.
 */
export function Proof({ record, proof, onProve, wanted }: {
  record: AuditRecord;
  proof: CallState<ProveResponse>;
  onProve: () => void;
  /** Whether it is to be verified as soon as that is possible. */
  wanted: boolean;
}) {
  const [pins, reread] = usePins();
  const unable = useIncapable();
  const [asked, ask] = useState(wanted);
  const [verdict, set] = useState<Verdict | undefined>(undefined);
  const answer = proof.kind === "ok" ? proof.value : undefined;
  useEffect(() => {
    set(undefined);
    if (!answer || !pins || pins.length === 0) return;
    let current = true;
    void verifyProof(answer.proof, pins, asLogged(record)).then((found) => current && set(found));
    return () => {
      current = false;
    };
  }, [answer, pins, record]);
  // Who came for the proof sees it; it stands below the record.
  const section = useRef<HTMLElement>(null);
  useEffect(() => {
    if (wanted && pins) section.current?.scrollIntoView({ block: "start" });
  }, [wanted, pins !== undefined, verdict]);
  return (
    <section class="stack audit-proof" aria-label="Proof" ref={section}>
      <h3>Proof</h3>
      {unable && <Notice tone="warn" title="This page cannot verify">{unable.message.replace("Nothing was verified: ", "").replace(/^./, (c) => c.toUpperCase())}</Notice>}
      {!unable && pins?.length === 0 && <PinForm serverKey={answer?.verifierKey} onPinned={() => { reread(); ask(true); if (!answer) onProve(); }} />}
      {!unable && pins !== undefined && pins.length > 0 && (
        <>
          <Pins pins={pins} onChange={() => { reread(); set(undefined); }} />
          <div class="row">
            <Button kind="primary" icon="check" busy={asked && proof.kind === "loading"} onClick={() => { ask(true); onProve(); }}>{verdict && asked ? "Verify again" : "Verify proof"}</Button>
          </div>
          {asked && proof.kind === "loading" && <Loading what="Asking for the proof" rows={1} />}
          {asked && proof.kind === "failed" && <Failed failure={proof.failure} what="No proof could be had" onRetry={onProve} />}
          {asked && verdict && answer && <Outcome verdict={verdict} answer={answer} pins={pins} onPinned={reread} />}
        </>
      )}
      {answer && <ProofText text={answer.proof} />}
    </section>
  );
}

function Outcome({ verdict, answer, pins, onPinned }: { verdict: Verdict; answer: ProveResponse; pins: readonly Pin[]; onPinned: () => void }) {
  switch (verdict.status) {
    case "verified":
      return (
        <>
          <Notice tone="good" title="Verified">
            This record is number {String(verdict.index)} of <code>{verdict.log}</code>, unchanged. A head of {String(verdict.size)} records, signed by the key that you pinned, covers it.
          </Notice>
          <details class="audit-json">
            <summary>What was proven</summary>
            <Proven record={verdict.record} />
          </details>
        </>
      );
    case "cannot-verify":
      return <Notice tone="warn" title="Nothing was verified">{verdict.message}</Notice>;
    case "not-verified":
      return (
        <>
          <Notice tone="bad" title="Not verified">
            <p>{plain(verdict.message)}</p>
            <p>{next[verdict.cause]}</p>
          </Notice>
          {verdict.record && (
            <div class="stack">
              <p><strong>What was proven</strong></p>
              <Proven record={verdict.record} />
            </div>
          )}
          {verdict.cause === "other-log" && <PinForm serverKey={answer.verifierKey} onPinned={onPinned} />}
          {verdict.cause === "wrong-key" && pins.every((pin) => pin.text !== answer.verifierKey) && <ServerKey text={answer.verifierKey} />}
        </>
      );
  }
}

function Proven({ record }: { record: ProvenRecord }) {
  return <pre class="code" tabIndex={0}>{plainJson(JSON.stringify(record, null, 2))}</pre>;
}

const next = {
  malformed: "Ask again. If it stays so, something between c1proxy and this page changes answers, or c1proxy is not what it seems.",
  "other-log": "",
  "wrong-key": "Either the log’s key was replaced, or this is not the log that it seems to be. Ask whoever runs c1proxy, by another way than this page.",
  "bad-signature": "Keep the proof’s text and tell whoever runs c1proxy.",
  "not-included": "Keep the proof’s text and tell whoever runs c1proxy.",
  "record-differs": "Do not rely on what this page shows of it. Keep the proof’s text and tell whoever runs c1proxy.",
} as const;

/** The pinned keys, and a way to forget each. */
function Pins({ pins, onChange }: { pins: readonly Pin[]; onChange: () => void }) {
  return (
    <ul class="audit-pins">
      {pins.map((pin) => (
        <li key={pin.name}>
          <span>Pinned for <code>{pin.name}</code>: key <code title={pin.text}>{pin.keyHash}</code>, {pin.remembered ? "remembered on this device" : "for this tab"}</span>
          <Button kind="quiet" onClick={() => { removePin(pin.name); onChange(); }}>Forget<span class="visually-hidden"> the key of {pin.name}</span></Button>
        </li>
      ))}
    </ul>
  );
}

function PinForm({ serverKey, onPinned }: { serverKey: string | undefined; onPinned: () => void }) {
  const [text, setText] = useState("");
  const [remember, setRemember] = useState(false);
  const [error, setError] = useState("");
  const pin = async () => {
    try {
      savePin(await parseVerifierKey(text), remember);
      onPinned();
    } catch (thrown) {
      if (!(thrown instanceof MalformedError)) throw thrown;
      setError(thrown.message);
    }
  };
  return (
    <form class="card stack" onSubmit={(event) => { event.preventDefault(); void pin(); }}>
      <p>
        To verify, pin the log’s verifier key. Get it from whoever runs c1proxy, by another way than this page: a key from the same server would prove nothing.
        c1proxy logs it at its start as <code>audit_key</code>; the demo prints it.
      </p>
      <Field label="Verifier key" error={error} hint="One line: name+hash+key. It is public.">
        <TextArea mono rows={2} value={text} placeholder="c1proxy-…+1a2b3c4d+AUx…" onInput={(event) => { setText(event.currentTarget.value); setError(""); }} />
      </Field>
      <Checkbox checked={remember} onChange={(event) => setRemember(event.currentTarget.checked)}>
        Remember it on this device. Otherwise it is forgotten with this tab. Only this public key is kept.
      </Checkbox>
      <div class="row"><Button kind="primary" type="submit">Pin this key</Button></div>
      {serverKey && <ServerKey text={serverKey} />}
    </form>
  );
}

/** What the server says its key is. */
function ServerKey({ text }: { text: string }) {
  return (
    <p class="small muted">
      The server says that its key is <code>{text}</code>. Compare it with yours; do not take it from here.
    </p>
  );
}

function ProofText({ text }: { text: string }) {
  return (
    <details class="audit-json">
      <summary>The proof’s text</summary>
      <div class="stack">
        <p class="small muted">Anyone who has the verifier key can check it: <code>proxy audit check-proof FILE --key VKEY</code></p>
        <div class="row"><CopyButton text={text} what="proof" label="Copy proof" /></div>
        <pre class="code" tabIndex={0}>{text}</pre>
      </div>
    </details>
  );
}
