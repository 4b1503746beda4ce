import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { type Route, useRoute, type View } from "./router";
import { SessionProvider, useSignIn } from "./session";
import { Shell } from "./shell";
import { SignInPage } from "./signin";
import { Loading, Notice, Button } from "./ui";
import { useTheme } from "./theme";

const load: Record<View, () => Promise<{ default: ComponentType }>> = {
  syncs: () => import("./views/syncs"),
  audit: () => import("./views/audit"),
  access: () => import("./views/access"),
  explorer: () => import("./views/explorer"),
};

export function App() {
  useTheme();
  const route = useRoute();
  const steps = useSignIn();
  if (steps.state.kind !== "in") return <SignInPage steps={steps} />;
  const { session } = steps.state;
  return (
    <SessionProvider session={session}>
      <Shell view={route.view}>
        <Shown key={`${session.who.team}/${session.who.caller}/${route.view}`} route={route} />
      </Shell>
    </SessionProvider>
  );
}

/** A view, fetched when it is first shown. */
function Shown({ route }: { route: Route }) {
  const [shown, set] = useState<{ view?: ComponentType; failed?: boolean }>({});
  useEffect(() => {
    let current = true;
    load[route.view]().then(
      (module) => current && set({ view: module.default }),
      () => current && set({ failed: true }),
    );
    return () => {
      current = false;
    };
  }, [route.view]);
  if (shown.failed) {
    return (
      <Notice tone="bad" title="This page could not be loaded"
        actions={<Button onClick={() => location.reload()}>Load the console again</Button>}>
        The gateway may have been replaced by another version since you opened the console, or cannot be reached.
      </Notice>
    );
  }
  if (!shown.view) return <Loading />;
  const View = shown.view;
  return <View />;
}
