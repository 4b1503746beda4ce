import { useEffect, useState } from "preact/hooks";
import { useRoute } from "../router";
import { useSession } from "../session";
import { Button, CopyButton, Facts, Notice, Page, Section, Time } from "../ui";
import { Limits } from "./access-limits";
import { MayCall } from "./access-methods";
import { Rules } from "./access-rules";
import { Why } from "./access-why";

/** Who one is to c1proxy, what one may call, how often, and why a call was refused. */
export default function AccessView() {
  const { params } = useRoute();
  const requestId = params.get("request_id") ?? "";
  const why = <Why requestId={requestId} />;
  return (
    <Page title="Access" about="Who you are to c1proxy, what you may call and how often, and why a call was refused.">
      {requestId && why}
      <Identity />
      {!requestId && why}
      <Limits />
      <Rules />
      <MayCall method={params.get("method") ?? ""} />
    </Page>
  );
}

/** How far a browser's clock may be off before it is said. */
const skewTold = 30;

function Identity() {
  const { who, refresh, ends } = useSession();
  const [busy, setBusy] = useState(false);
  const [skew, setSkew] = useState(0);
  useEffect(() => {
    // who has just come: the clocks are compared as of now.
    if (who.time) setSkew(Math.round(Number(who.time.seconds) - Date.now() / 1000));
  }, [who]);
  return (
    <Section title="You" actions={
      <Button kind="quiet" icon="sync" busy={busy} onClick={async () => {
        setBusy(true);
        await refresh().catch(() => undefined);
        setBusy(false);
      }}>Refresh<span class="visually-hidden"> who you are</span></Button>
    }>
      <div class="card">
        <Facts facts={[
          ["Caller", <strong>{who.caller}</strong>],
          ["Team", who.team],
          ["C1 tenant", who.tenant],
          ["Credential", <><code>{who.credential}</code> <span class="muted small">as the audit names it</span></>],
          ["Subject", who.subject],
          ["Sign-in ends", ends !== undefined && <Time of={new Date(ends)} />],
          ["Policy revision", <><code>{who.policyRevision}</code> <CopyButton text={who.policyRevision} what="policy revision" /></>],
        ]} />
      </div>
      {Math.abs(skew) > skewTold && (
        <Notice tone="warn" title="Your computer’s clock and c1proxy’s differ">
          By {Math.abs(skew)} seconds: yours is {skew > 0 ? "behind" : "ahead"}. Times like “2 min ago” are off by as much.
        </Notice>
      )}
    </Section>
  );
}
