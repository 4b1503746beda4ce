import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useRead } from "../call";
import { loadCatalog } from "../descriptors";
import { type Catalog, type Method, searchMethods } from "../explorer/catalog";
import { href, useRoute } from "../router";
import { Answered, Empty, Notice, Page, SearchInput, useFocus, Wrapping } from "../ui";
import { plain } from "../ui/text";
import { MethodPanel } from "./explorer-method";
import { Kind } from "./explorer-words";
import "./explorer.css";

/** All methods: to look for one, fill its request in, and call it. */
export default function ExplorerView() {
  const { state, reload } = useRead(loadCatalog, []);
  return (
    <Page title="API explorer" about={state.value && `${state.value.methods.length} methods of C1 and c1proxy. What you call here is called as you, and recorded.`}>
      <Answered state={state} what="The methods could not be read" onRetry={reload} rows={8}>
        {(catalog) => <Explorer catalog={catalog} />}
      </Answered>
    </Page>
  );
}

function Explorer({ catalog }: { catalog: Catalog }) {
  const { path } = useRoute();
  const [query, setQuery] = useState("");
  const found = useMemo(() => searchMethods(catalog.methods, query), [catalog, query]);
  const id = path.join("/");
  const chosen = catalog.find(id);
  const missing = id !== "" && !chosen;
  return (
    <div class="explorer" data-chosen={id !== "" || undefined}>
      <div class="explorer-side">
        <SearchInput aria-label="Search methods" placeholder="Service, method or path" value={query} onInput={(event) => setQuery(event.currentTarget.value)} />
        <p class="visually-hidden" role="status">{query === "" ? "" : `${found.length} methods found`}</p>
        {found.length === 0
          ? <Empty title="No method has all these words">Try fewer, or a part of a word.</Empty>
          : <MethodList key={query} methods={found} chosen={id} grouped={query === ""} />}
      </div>
      <div class="explorer-main">
        {id !== "" && <a class="explorer-back" href={href("explorer")}>All methods</a>}
        {chosen && <MethodPanel key={chosen.id} method={chosen} registry={catalog.registry} />}
        {missing && <Notice tone="warn" title="There is no such method">C1 and c1proxy have no method <code>{plain(id)}</code>. Search for a part of its name.</Notice>}
        {id === "" && <Empty title="Choose a method">Search by words in any order, such as “confirm sync”, or by C1’s path, such as “/api/v1/apps”.</Empty>}
      </div>
    </div>
  );
}

const step = 60;

/** The methods as links; more of them are made as they come into sight. */
function MethodList({ methods, chosen, grouped }: { methods: readonly Method[]; chosen: string; grouped: boolean }) {
  const at = methods.findIndex((method) => method.id === chosen);
  const [shown, show] = useState(() => Math.max(step, grouped && at >= 0 ? at + step : 0));
  const list = useRef<HTMLElement>(null);
  const end = useRef<HTMLButtonElement>(null);
  const [root, focus] = useFocus();
  const more = () => {
    // The button goes with the last of them, and with it the focus: what it showed first is next.
    if (shown + step >= methods.length && document.activeElement === end.current) focus((groups) => groups.querySelectorAll("a")[shown]);
    show(shown + step);
  };
  useEffect(() => {
    const element = end.current;
    if (!element) return;
    const observer = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) more();
    }, { rootMargin: "400px" });
    observer.observe(element);
    return () => observer.disconnect();
  }, [shown]);
  useEffect(() => {
    const link = list.current?.querySelector<HTMLElement>("[aria-current]");
    if (link && list.current && list.current.scrollHeight > list.current.clientHeight) list.current.scrollTop = link.offsetTop - list.current.offsetTop - 80;
  }, []);
  const groups = useMemo(() => groupsOf(methods.slice(0, shown)), [methods, shown]);
  return (
    <nav class="explorer-list" aria-label="Methods" ref={(element) => { list.current = element; root(element); }}>
      {groups.map(([service, some]) => (
        <div key={service}>
          <h2 title={service}><Wrapping of={service.slice(service.lastIndexOf(".") + 1)} /> <span class="muted">{service.slice(0, service.lastIndexOf("."))}</span></h2>
          <ul>
            {some.map((method) => (
              <li key={method.id}>
                <a href={href("explorer", {}, [method.service, method.name])} aria-current={method.id === chosen ? "true" : undefined}>
                  <span><Wrapping of={method.name} /></span><Kind method={method} />
                </a>
              </li>
            ))}
          </ul>
        </div>
      ))}
      {shown < methods.length && <button ref={end} type="button" class="button quiet" onClick={more}>{methods.length - shown} more</button>}
    </nav>
  );
}

/** The methods by their services, in the order in which each comes first. */
function groupsOf(methods: readonly Method[]): [string, Method[]][] {
  const groups = new Map<string, Method[]>();
  for (const method of methods) {
    const group = groups.get(method.service);
    if (group) group.push(method);
    else groups.set(method.service, [method]);
  }
  return [...groups];
}
