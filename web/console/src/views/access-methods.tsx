import { type ExplainResponse, GatewayService } from "@c1proxy/client/gen/c1proxy/v1/gateway_pb";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { mapBounded, useRead } from "../call";
import { loadCatalog } from "../descriptors";
import { type Method, searchMethods } from "../explorer/catalog";
import { type Failure, failureOf } from "../failure";
import { href } from "../router";
import { useSession } from "../session";
import { Answered, Badge, Button, type Column, Empty, Section, SearchInput, Table, useFocus, Wrapping } from "../ui";
import { plain } from "../ui/text";
import { Explained, verdictOf } from "./access-explained";

type Verdict = { readonly explained: ExplainResponse } | { readonly failure: Failure } | "asking";

const shownAtOnce = 15;
const shownMore = 50;
const askedAtOnce = 4;

/** All methods, and for those that one asks about whether the policy lets the caller call them. */
export function MayCall({ method }: { method: string }) {
  const { who, client } = useSession();
  const catalog = useRead(() => loadCatalog(), []);
  const [search, setSearch] = useState(method);
  const [shown, setShown] = useState(shownAtOnce);
  const [verdicts, setVerdicts] = useState<ReadonlyMap<string, Verdict>>(new Map());
  useEffect(() => setSearch(method), [method]);
  useEffect(() => setShown(shownAtOnce), [search]);
  useEffect(() => setVerdicts(new Map()), [who.policyRevision]);

  const ask = async (methods: readonly Method[]) => {
    const put = (id: string, verdict: Verdict) => setVerdicts((before) => new Map(before).set(id, verdict));
    for (const one of methods) put(one.id, "asking");
    await mapBounded(methods, askedAtOnce, async (one) => {
      try {
        put(one.id, { explained: await client(GatewayService).explain({ method: one.id }) });
      } catch (thrown) {
        put(one.id, { failure: failureOf(thrown) });
      }
    });
  };
  const all = catalog.state.value?.methods;
  const found = useMemo(() => (all ? searchMethods(all, search) : []), [all, search]);
  const page = found.slice(0, shown);
  const [list, focus] = useFocus();
  const more = () => {
    // The button goes with the last of them: what it showed first is next.
    if (shown + shownMore >= found.length) focus((it) => it.querySelectorAll("tbody tr")[shown]?.querySelector("a"));
    setShown(shown + shownMore);
  };
  const unasked = page.filter((one) => !verdicts.has(one.id));

  return (
    <Section title="May I call…?" about="Asks c1proxy what the policy says of a method, before there is a request. Each question is a call, which your limits count.">
      <Answered state={catalog.state} what="The list of methods could not be had" onRetry={catalog.reload} rows={4}>
        {(value) => (
          <div class="stack" ref={list}>
            <div class="filters">
              <SearchInput aria-label="Search methods" placeholder={`Search ${value.methods.length} methods`} value={search}
                onInput={(event) => setSearch(event.currentTarget.value)} />
              <Button aria-disabled={unasked.length === 0 || undefined} onClick={() => void ask(unasked)}>
                {unasked.length === 0 ? "All asked" : `Ask for ${page.length === unasked.length ? "these" : "the other"} ${unasked.length}`}
              </Button>
            </div>
            {found.length === 0
              ? <Empty title="No method matches">Search by a part of a service, a method or a path, such as “connector sync”.</Empty>
              : <Table caption="Methods" columns={columnsOf(verdicts, ask)} rows={page} rowKey={(one) => one.id} />}
            <div class="row between">
              <span class="muted small" role="status">{page.length} of {found.length}</span>
              {page.length < found.length && <Button kind="quiet" onClick={more}>Show more</Button>}
            </div>
          </div>
        )}
      </Answered>
    </Section>
  );
}

function columnsOf(verdicts: ReadonlyMap<string, Verdict>, ask: (methods: readonly Method[]) => Promise<void>): readonly Column<Method>[] {
  return [
    {
      title: "Method",
      head: true,
      grow: true,
      cell: (one) => (
        <span class="method">
          <a href={href("explorer", {}, [one.service, one.name])}><Wrapping of={one.name} /></a>
          <span class="muted mono"><Wrapping of={one.service} /></span>
        </span>
      ),
    },
    { title: "Kind", cell: (one) => <span class="muted">{one.reads ? "read" : "write"}</span> },
    {
      title: "May I?",
      cell: (one) => <MayI method={one} verdict={verdicts.get(one.id)} onAsk={() => void ask([one])} />,
    },
  ];
}

/** Whether one may call a method, when one has asked. */
function MayI({ method, verdict, onAsk }: { method: Method; verdict: Verdict | undefined; onAsk: () => void }) {
  const [root, focus] = useFocus();
  const button = useRef<HTMLSpanElement>(null);
  // The answer takes the place of the button, and the focus where the button had it.
  if (button.current?.contains(document.activeElement)) focus((cell) => cell.querySelector<HTMLElement>("button, summary") ?? cell);
  return (
    <div ref={root}>
      {verdict === undefined || verdict === "asking"
        ? (
          <span ref={button}>
            <Button kind="quiet" busy={verdict === "asking"} onClick={onAsk}>
              {verdict === "asking" ? "Asking…" : "Ask"}<span class="visually-hidden"> whether I may call {method.id}</span>
            </Button>
          </span>
        )
        : <Answer verdict={verdict} />}
    </div>
  );
}

function Answer({ verdict }: { verdict: Exclude<Verdict, "asking"> }) {
  if ("failure" in verdict) return <span class="verdict"><Badge tone="warn">Not answered</Badge> <span class="small">{plain(verdict.failure.message)}</span></span>;
  const [words, tone] = verdictOf(verdict.explained);
  return (
    <details class="verdict">
      <summary><Badge tone={tone}>{words}</Badge></summary>
      <Explained explained={verdict.explained} />
    </details>
  );
}
