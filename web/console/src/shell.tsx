import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { href, useRoute, type View, views } from "./router";
import { useSession } from "./session";
import { useTheme } from "./theme";
import { Button, Icon, type IconName, Notice, useNow, useZone } from "./ui";

const titles: Record<View, [string, IconName]> = {
  syncs: ["Syncs", "sync"],
  audit: ["Audit", "audit"],
  access: ["Access", "access"],
  explorer: ["API explorer", "explorer"],
};

/** What stands around every view: the navigation, and who is signed in. */
export function Shell({ view, children }: { view: View; children: ComponentChildren }) {
  const [open, setOpen] = useState(false);
  const route = useRoute();
  useEffect(() => setOpen(false), [route]);
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault();
        document.getElementById("main")?.focus();
      }}>Skip to the content</a>
      <header class="side" data-open={open || undefined}>
        <div class="brand">
          <a href={href("syncs")} class="brand-name"><Mark />c1proxy</a>
          <span class="menu-button">
            <Button kind="quiet" icon={open ? "close" : "menu"} iconOnly aria-expanded={open} aria-controls="side-content"
              onClick={() => setOpen(!open)}>{open ? "Close the menu" : "Menu"}</Button>
          </span>
        </div>
        <div class="side-content" id="side-content">
          <nav aria-label="Views">
            {views.map((one) => (
              <a key={one} href={href(one)} aria-current={one === view ? "page" : undefined}>
                <Icon name={titles[one][1]} />{titles[one][0]}
              </a>
            ))}
          </nav>
          <Who />
        </div>
      </header>
      <main id="main" tabIndex={-1}><Ending />{children}</main>
    </div>
  );
}

/** How long before a sign-in ends it is told. */
const toldAhead = 5 * 60_000;

/** Tells that the sign-in ends soon, where nothing renews it. */
function Ending() {
  const { ends, signInAgain } = useSession();
  const now = useNow(10_000);
  const [problem, setProblem] = useState("");
  if (ends === undefined || ends - now > toldAhead) return null;
  const minutes = Math.max(0, Math.ceil((ends - now) / 60_000));
  return (
    <div class="ending">
      <Notice tone="warn" title={minutes === 0 ? "Your sign-in has ended" : `Your sign-in ends in ${minutes} ${minutes === 1 ? "minute" : "minutes"}`}
        actions={<Button onClick={() => void signInAgain().catch((thrown: Error) => setProblem(thrown.message))}>Sign in again</Button>}>
        {problem || "Sign in again, and you are back where you are now."}
      </Notice>
    </div>
  );
}

/** Who is signed in, and the settings of this tab. */
function Who() {
  const { who, teams, chooseTeam, signOut } = useSession();
  const [theme, setTheme] = useTheme();
  const [zone, setZone] = useZone();
  const dark = theme === "dark" || (theme === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  return (
    <div class="who">
      <div class="who-name">
        <strong title={who.subject || undefined}>{who.caller}</strong>
        <span class="muted">{who.tenant}</span>
      </div>
      {teams.length > 1
        ? (
          <select class="input select" aria-label="Team" value={who.team} onChange={(event) => chooseTeam(event.currentTarget.value)}>
            {teams.map((team) => <option key={team} value={team}>{team}</option>)}
          </select>
        )
        : <span class="muted">Team {who.team}</span>}
      <div class="who-tools">
        <Button kind="quiet" icon={dark ? "sun" : "moon"} iconOnly onClick={() => setTheme(dark ? "light" : "dark")}>
          {dark ? "Light theme" : "Dark theme"}
        </Button>
        <Button kind="quiet" aria-label={`Times are ${zone === "utc" ? "in UTC" : "local"}: change`} onClick={() => setZone(zone === "utc" ? "local" : "utc")}>
          {zone === "utc" ? "UTC" : "Local"}
        </Button>
        <Button kind="quiet" icon="out" onClick={signOut}>Sign out</Button>
      </div>
    </div>
  );
}

export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
      <rect x="1" y="1" width="18" height="18" rx="5" />
      <path d="M5.5 10h9M11 6.5 14.5 10 11 13.5" />
    </svg>
  );
}
