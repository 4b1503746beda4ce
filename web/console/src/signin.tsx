import { useEffect, useRef, useState } from "preact/hooks";
import { type Config, loadConfig } from "./config";
import type { SignInSteps } from "./session";
import { Mark } from "./shell";
import { Button, Failed, Field, Input, Loading, Notice } from "./ui";
import { cameFromSignIn } from "./ui/page";

/** The page of those who are not signed in, or have yet to say for which team. */
export function SignInPage({ steps }: { steps: SignInSteps }) {
  const state = steps.state;
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = "Sign in · c1proxy";
    // Who has signed out by a button that is gone hears where they are.
    if (document.activeElement === document.body) heading.current?.focus();
  }, [state.kind]);
  return (
    <main class="signin">
      <div class="signin-box">
        <p class="signin-brand"><Mark />c1proxy</p>
        {state.kind === "starting" && <><h1>Signing in</h1><Loading what="Signing in" rows={2} /></>}
        {state.kind === "team" && <ChooseTeam teams={state.teams} steps={steps} />}
        {state.kind === "unreachable" && (
          <>
            <h1>Not signed in yet</h1>
            <Failed failure={state.failure} what="c1proxy did not say who you are" onRetry={() => void steps.again()} />
            <Button onClick={() => steps.leave()}>Sign in as somebody else</Button>
          </>
        )}
        {state.kind === "out" && (
          <>
            <h1 ref={heading} tabIndex={-1}>Sign in</h1>
            {state.notice && <Notice>{state.notice}</Notice>}
            {state.failure && <Failed failure={state.failure} what="You are not signed in" />}
            {state.problem && <Notice tone="bad" title="You are not signed in">{state.problem}</Notice>}
            <Ways steps={steps} />
          </>
        )}
      </div>
    </main>
  );
}

/** The ways to sign in that the gateway has. */
function Ways({ steps }: { steps: SignInSteps }) {
  const [config, setConfig] = useState<Config | "failed" | undefined>();
  useEffect(() => {
    loadConfig().then(setConfig, () => setConfig("failed"));
  }, []);
  if (config === undefined) return <Loading rows={2} />;
  const issuer = config === "failed" ? undefined : config.issuer;
  return (
    <>
      {issuer && <IssuerButton issuer={issuer} steps={steps} />}
      {issuer && <p class="signin-or">or</p>}
      <KeyForm steps={steps} main={!issuer} />
    </>
  );
}

function IssuerButton({ issuer, steps }: { issuer: string; steps: SignInSteps }) {
  const [busy, setBusy] = useState(false);
  return (
    <Button kind="primary" busy={busy} onClick={async () => {
      setBusy(true);
      await steps.byIssuer();
      // The page is on its way to the issuer; it comes back to life by the back button.
      setTimeout(() => setBusy(false), 3000);
    }}>Sign in with {new URL(issuer).host}</Button>
  );
}

function ChooseTeam({ teams, steps }: { teams: readonly string[]; steps: SignInSteps }) {
  const [busy, setBusy] = useState("");
  return (
    <>
      <h1>Choose a team</h1>
      <p>You belong to several teams. What you may do depends on the team that you act for, and the audit records it. You can change it later.</p>
      <ul class="choices">
        {teams.map((team) => (
          <li key={team}>
            <Button busy={busy === team} icon="right" onClick={() => {
              setBusy(team);
              void steps.forTeam(team);
            }}>{team}</Button>
          </li>
        ))}
      </ul>
      <Button kind="quiet" onClick={() => steps.leave()}>Sign in as somebody else</Button>
    </>
  );
}

function KeyForm({ steps, main }: { steps: SignInSteps; main: boolean }) {
  const [key, setKey] = useState("");
  const [shown, setShown] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  return (
    <form onSubmit={async (event) => {
      event.preventDefault();
      const token = key.trim();
      const problem = keyProblem(token);
      setError(problem);
      if (problem || busy) return;
      cameFromSignIn();
      setBusy(true);
      await steps.byKey(token);
      setBusy(false);
    }}>
      <Field label="API key" error={error} hint="It is kept for this tab alone, until you sign out.">
        <span class="with-button">
          <Input type={shown ? "text" : "password"} mono name="api-key" value={key} autoFocus={main}
            data-1p-ignore data-lpignore="true" onInput={(event) => setKey(event.currentTarget.value)} />
          <Button aria-pressed={shown} onClick={() => setShown(!shown)}>{shown ? "Hide" : "Show"}</Button>
        </span>
      </Field>
      <Button kind={main ? "primary" : "plain"} type="submit" busy={busy}>{main ? "Sign in" : "Sign in with a key"}</Button>
    </form>
  );
}

/** What is wrong with a key by its looks. */
function keyProblem(key: string): string {
  if (key === "") return "Paste your key.";
  if (/\s/.test(key)) return "The key has a space or a line break in it. Copy it again.";
  if (/[^\x21-\x7e]/.test(key)) return "The key has a character that no key has. Copy it again.";
  return "";
}
