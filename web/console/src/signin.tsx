import { useState } from "preact/hooks";
import { Mark } from "./shell";
import type { Kept, SignIn } from "./session";
import { Button, Failed, Field, Input, Notice } from "./ui";

/** The page of those who are not signed in, or have yet to say for which team. */
export function SignInPage({ signIn, enter, leave }: {
  signIn: Exclude<SignIn, { kind: "in" | "starting" }>;
  enter: (kept: Kept) => Promise<void>;
  leave: () => void;
}) {
  return (
    <main class="signin">
      <div class="signin-box">
        <p class="signin-brand"><Mark />c1proxy</p>
        {signIn.kind === "team" && <ChooseTeam kept={signIn.kept} teams={signIn.teams} enter={enter} leave={leave} />}
        {signIn.kind === "unreachable" && (
          <>
            <h1>You are not signed in yet</h1>
            <Failed failure={signIn.failure} what="c1proxy does not say who you are" onRetry={() => void enter(signIn.kept)} />
            <Button onClick={leave}>Sign in as somebody else</Button>
          </>
        )}
        {signIn.kind === "out" && (
          <>
            <h1>Sign in</h1>
            {signIn.notice && <Notice>{signIn.notice}</Notice>}
            {signIn.failure && <Failed failure={signIn.failure} what="You are not signed in" />}
            <KeyForm enter={enter} />
          </>
        )}
      </div>
    </main>
  );
}

function ChooseTeam({ kept, teams, enter, leave }: { kept: Kept; teams: readonly string[]; enter: (kept: Kept) => Promise<void>; leave: () => void }) {
  const [busy, setBusy] = useState("");
  return (
    <>
      <h1>Choose a team</h1>
      <p>You belong to several teams. What you may do, and what is recorded, is the team's that you call for. You can change it later.</p>
      <ul class="choices">
        {teams.map((team) => (
          <li key={team}>
            <Button busy={busy === team} icon="right" onClick={() => {
              setBusy(team);
              void enter({ ...kept, team, teams });
            }}>{team}</Button>
          </li>
        ))}
      </ul>
      <Button kind="quiet" onClick={leave}>Sign in as somebody else</Button>
    </>
  );
}

function KeyForm({ enter }: { enter: (kept: Kept) => Promise<void> }) {
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
      setBusy(true);
      await enter({ token });
      setBusy(false);
    }}>
      <Field label="API key" error={error} hint="It stays in this tab, and is forgotten when the tab is closed.">
        <span class="with-button">
          <Input type={shown ? "text" : "password"} mono autocomplete="off" name="api-key" value={key} autoFocus
            data-1p-ignore data-lpignore="true" onInput={(event) => setKey(event.currentTarget.value)} />
          <Button aria-pressed={shown} onClick={() => setShown(!shown)}>{shown ? "Hide" : "Show"}</Button>
        </span>
      </Field>
      <Button kind="primary" type="submit" busy={busy}>Sign in</Button>
    </form>
  );
}

/** What is wrong with a key by its looks. */
function keyProblem(key: string): string {
  if (key === "") return "Paste your key.";
  if (/\s/.test(key)) return "The key has a space or a line break in it: copy it again.";
  if (/[^\x21-\x7e]/.test(key)) return "The key has a character that no key has: copy it again.";
  return "";
}
