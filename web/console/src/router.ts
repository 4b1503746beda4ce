import { useEffect, useState } from "preact/hooks";

/** The views of the console, in the order of its navigation. */
export const views = ["syncs", "audit", "access", "explorer"] as const;
export type View = (typeof views)[number];

/** Where the console is: what the fragment of its address says. */
export interface Route {
  readonly view: View;
  /** The names after the view, as in #/explorer/c1.api.app.v1.Apps/List. */
  readonly path: readonly string[];
  readonly params: URLSearchParams;
}

/** Reads a fragment, such as #/audit?request_id=abc. What names no view is the first one. */
export function parseRoute(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#?\/?/, "").split(/\?(.*)/s, 2);
  const [view = "", ...rest] = path.split("/").filter(Boolean).map(decode);
  return {
    view: (views as readonly string[]).includes(view) ? (view as View) : views[0],
    path: rest,
    params: new URLSearchParams(query),
  };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

type Params = Readonly<Record<string, string | undefined>>;

/** The address of a view; parameters without a value are left out. */
export function href(view: View, params: Params = {}, path: readonly string[] = []): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value) query.set(name, value);
  const text = query.toString();
  return `#/${[view, ...path.map(encodeURIComponent)].join("/")}${text ? `?${text}` : ""}`;
}

/** Goes to an address of href; replace leaves no entry in the history. */
export function navigate(to: string, replace = false): void {
  if (to === location.hash) return;
  if (!replace) {
    location.hash = to;
    return;
  }
  history.replaceState(history.state, "", to);
  dispatchEvent(new HashChangeEvent("hashchange"));
}

/** The route, as it changes. */
export function useRoute(): Route {
  const [route, set] = useState(() => parseRoute(location.hash));
  useEffect(() => {
    const read = () => set(parseRoute(location.hash));
    addEventListener("hashchange", read);
    return () => removeEventListener("hashchange", read);
  }, []);
  return route;
}
