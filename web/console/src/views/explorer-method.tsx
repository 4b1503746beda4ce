import type { JsonObject, Registry } from "@bufbuild/protobuf";
import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import { reasonBytes, reasonLimit } from "../api";
import type { Method } from "../explorer/catalog";
import { normal, parseRequest, type Problem, problemsOf } from "../explorer/form";
import { type Answer, invoke } from "../explorer/invoke";
import { leave, runningOf } from "../explorer/running";
import { curlSnippet, grpcurlSnippet, typescriptSnippet } from "../explorer/snippets";
import { href } from "../router";
import { personOf, useSession } from "../session";
import { Button, CopyButton, Dialog, Failed, Field, Input, Notice, Section, TextArea, Wrapping } from "../ui";
import { plainJson, wellFormed } from "../ui/text";
import { useUnderWay } from "../under-way";
import { FormContext, MessageForm } from "./explorer-form";
import { Tree } from "./explorer-tree";
import { Kind } from "./explorer-words";

/** One method: its request, its call, and what was answered. */
export function MethodPanel({ method, registry }: { method: Method; registry: Registry }) {
  const request = useRequest(method, registry);
  const { answer, calling, call, cancel } = useInvoke(method, registry);
  const [reason, holdReason] = useState("");
  const setReason = (text: string) => holdReason(wellFormed(text));
  const [asking, ask] = useState(false);
  const tooLong = reasonBytes(reason) > reasonLimit;
  const elsewhere = useUnderWay(method.id) && !calling;
  const blocked = request.problems.length > 0 || tooLong || elsewhere;
  const send = () => {
    if (blocked) return;
    if (method.reads) void call(request.json, reason);
    else ask(true);
  };
  return (
    <div class="stack explorer-method">
      <header class="stack">
        <h2 class="explorer-name"><Wrapping of={method.name} /> <Kind method={method} /></h2>
        <p class="explorer-where"><code><Wrapping of={method.service} /></code>{method.rest && <code class="muted">{method.rest}</code>}</p>
      </header>
      <Section title="Request" actions={<Switch label="How the request is written" value={request.view} options={[["form", "Form"], ["json", "JSON"]]} onChange={request.setView} />}>
        <form class="stack" onSubmit={(event) => { event.preventDefault(); if (!method.streams) send(); }}>
          {request.view === "form" ? <FormView method={method} request={request} registry={registry} /> : <JsonView method={method} request={request} />}
          <Problems problems={request.problems} />
          {method.streams
            ? <Notice title="Not called here">This method answers with a stream, which does not end by itself. The <a href={href("audit")}>audit view</a> shows it live; the commands below follow it elsewhere.</Notice>
            : (
              <>
                {method.reads && (
                  <Field label="Reason (optional)" hint="It is recorded in the audit." error={tooLong && `A reason has at most ${reasonLimit} bytes.`}>
                    <Input value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
                  </Field>
                )}
                <div class="row">
                  <Button kind={method.dangerous ? "danger" : "primary"} type="submit" busy={calling} disabled={blocked}>{method.reads ? "Call" : "Call…"}</Button>
                  {calling && <Button onClick={cancel}>Cancel</Button>}
                  {blocked && !calling && <span class="muted small">{elsewhere ? "It is being called elsewhere in the console." : "The request must be put right first."}</span>}
                </div>
              </>
            )}
        </form>
      </Section>
      {answer && <AnswerView method={method} answer={answer} />}
      <Snippets method={method} request={request.json} reason={reason} blocked={request.problems.length > 0} />
      {asking && (
        <AskFirst method={method} request={request.json} reason={reason} onReason={setReason} onClose={() => ask(false)}
          onCall={() => { ask(false); void call(request.json, reason); }} />
      )}
    </div>
  );
}

interface RequestState {
  readonly view: "form" | "json";
  setView(view: "form" | "json"): void;
  readonly json: JsonObject;
  setJson(json: JsonObject): void;
  /** The text of the JSON view. */
  readonly text: string;
  setText(text: string): void;
  /** What is wrong with the text, if it is no JSON: json is then what was there before. */
  readonly syntax: string | undefined;
  readonly problems: readonly Problem[];
  /** Takes note of an input whose text is no JSON, which json cannot hold. */
  setDraft(input: string, problem: Problem | undefined): void;
}

/** A request that is written as a form and as JSON, each following the other. */
function useRequest(method: Method, registry: Registry): RequestState {
  const desc = method.desc.input;
  const [view, show] = useState<"form" | "json">("form");
  const [json, hold] = useState<JsonObject>({});
  const [text, write] = useState("{}");
  const [syntax, setSyntax] = useState<string | undefined>(undefined);
  const [drafts, setDrafts] = useState<Readonly<Record<string, Problem>>>({});
  const problems = useMemo((): readonly Problem[] => {
    if (syntax) return [{ path: "", message: syntax }];
    return [...Object.values(drafts), ...problemsOf(desc, json, registry)];
  }, [syntax, drafts, json]);
  const pretty = (value: JsonObject) => {
    const fits = problemsOf(desc, value, registry).length === 0;
    return JSON.stringify(fits ? normal(desc, value, registry) : value, null, 2);
  };
  return {
    view, json, text, syntax, problems,
    setView: (next) => {
      // What stands in an input and is no JSON goes with the form.
      if (next === "json" && !syntax) {
        setDrafts({});
        write(pretty(json));
      }
      show(next);
    },
    setJson: (next) => {
      hold(next);
      setSyntax(undefined);
      write(pretty(next));
    },
    setText: (next) => {
      write(next);
      const parsed = parseRequest(desc, next, registry);
      if ("syntax" in parsed) setSyntax(parsed.syntax);
      else {
        setSyntax(undefined);
        hold(parsed.json);
      }
    },
    setDraft: (input, problem) => setDrafts(({ [input]: _, ...others }) => (problem ? { ...others, [input]: problem } : others)),
  };
}

function FormView({ method, request, registry }: { method: Method; request: RequestState; registry: Registry }) {
  if (request.syntax) {
    return (
      <Notice tone="warn" title="The JSON does not read" actions={
        <>
          <Button onClick={() => request.setView("json")}>Back to the JSON</Button>
          <Button kind="quiet" onClick={() => request.setJson(request.json)}>Use what was there before</Button>
        </>
      }>{request.syntax}</Notice>
    );
  }
  return (
    <FormContext.Provider value={{ problems: request.problems, setDraft: request.setDraft, registry }}>
      <MessageForm desc={method.desc.input} value={request.json} path="" onChange={request.setJson} root />
    </FormContext.Provider>
  );
}

function JsonView({ method, request }: { method: Method; request: RequestState }) {
  const lines = request.text.split("\n").length;
  return (
    <div class="stack">
      <Field label="Request in JSON" hint={<>A <code>{method.desc.input.typeName}</code> in protobuf’s JSON.</>} error={request.syntax}>
        <TextArea mono rows={Math.min(Math.max(lines + 1, 6), 24)} value={request.text} onInput={(event) => request.setText(event.currentTarget.value)} />
      </Field>
      <div class="row"><CopyButton text={request.text} what="request" label="Copy" /></div>
    </div>
  );
}

/** All that is wrong with the request, each with its place. */
function Problems({ problems }: { problems: readonly Problem[] }) {
  const placed = problems.filter((problem) => problem.path !== "");
  return (
    <div role="status">
      {placed.length > 0 && (
        <ul class="explorer-problems">
          {placed.slice(0, 10).map((problem, i) => <li key={i}><code>{problem.path}</code> {problem.message}.</li>)}
          {placed.length > 10 && <li>and {placed.length - 10} more</li>}
        </ul>
      )}
      {problems.filter((problem) => problem.path === "" && !problem.message.startsWith("This is not JSON")).map((problem, i) => <p key={i} class="field-error">{problem.message}</p>)}
    </div>
  );
}

/** The one call that is under way, and the last answer. A read is given up with the view; what acts is not. */
function useInvoke(method: Method, registry: Registry) {
  const { transport, who } = useSession();
  const person = personOf(who);
  const running = useMemo(() => runningOf(person, method), [person, method]);
  const [, changed] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    const deaf = running.listen(() => changed(undefined));
    return () => {
      deaf();
      leave(person, method, running);
    };
  }, [running]);
  const call = (request: JsonObject, reason: string) =>
    running.run(method, (signal) => invoke(transport, method, request, registry, reason === "" ? {} : { "C1proxy-Reason": encodeURIComponent(reason) }, signal));
  return { answer: running.answer, calling: running.calling, call, cancel: () => running.cancel() };
}

/** Asks before a call that changes something. What takes away wants the method's name. */
function AskFirst({ method, request, reason, onReason, onCall, onClose }: {
  method: Method; request: JsonObject; reason: string; onReason: (reason: string) => void; onCall: () => void; onClose: () => void;
}) {
  const { who } = useSession();
  const [typed, type] = useState("");
  const tooLong = reasonBytes(reason) > reasonLimit;
  const ready = !tooLong && (!method.dangerous || typed.trim() === method.name);
  const confirms = method.name === "ConfirmSyncValid";
  return (
    <Dialog title={`Call ${method.name}?`} onClose={onClose}>
      <form class="stack" onSubmit={(event) => { event.preventDefault(); if (ready) onCall(); }}>
        {method.dangerous
          ? (
            <Notice tone="bad" title={confirms ? "C1 will take this sync as true" : "This may not be undone"}>
              {confirms
                ? <>What the sync did not find is removed from C1, with the access that hangs on it. <a href={href("syncs")}>Syncs</a> shows what is lost before it asks.</>
                : <>By its name it takes something away from {who.tenant}. It is called once, and not tried again.</>}
            </Notice>
          )
          : <p>This changes something in {who.tenant}. It is called once, and not tried again.</p>}
        <pre class="code explorer-request" tabIndex={0} aria-label="Request">{plainJson(JSON.stringify(request, null, 2))}</pre>
        <Field label="Reason" hint="It is recorded in the audit; some rules require it." error={tooLong && `A reason has at most ${reasonLimit} bytes.`}>
          <Input value={reason} onInput={(event) => onReason(event.currentTarget.value)} />
        </Field>
        {method.dangerous && (
          <Field label={<>To go on, type <code>{method.name}</code></>}>
            <Input mono value={typed} onInput={(event) => type(event.currentTarget.value)} />
          </Field>
        )}
        <div class="dialog-actions">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind={method.dangerous ? "danger" : "primary"} disabled={!ready}>Call {method.name}</Button>
        </div>
      </form>
    </Dialog>
  );
}

const longestShown = 200_000;

function AnswerView({ method, answer }: { method: Method; answer: Answer }) {
  const [view, show] = useState<"tree" | "text">("tree");
  const text = useMemo(() => (answer.json === undefined ? "" : plainJson(JSON.stringify(answer.json, null, 2))), [answer]);
  const { failure } = answer;
  const region = useRef<HTMLDivElement>(null);
  useEffect(() => region.current?.scrollIntoView({ block: "nearest" }), [answer]);
  return (
    <div ref={region}>
      <Section title="Answer" actions={!failure && (
        <>
          <CopyButton text={text} what="answer" label="Copy" />
          <Switch label="How the answer is shown" value={view} options={[["tree", "Tree"], ["text", "Text"]]} onChange={show} />
        </>
      )}>
        <p class="explorer-status" role="status">
          <span class={`badge ${failure ? "bad" : "good"}`}>{failure ? failure.codeName : "ok"}</span>
          <span>{Math.round(answer.milliseconds)} ms</span>
          {answer.requestId && <span>request <code>{answer.requestId}</code><CopyButton text={answer.requestId} what="request id" /></span>}
          {answer.requestId && <a href={href("audit", { request_id: answer.requestId })}>In the audit</a>}
          {answer.headers.map(([name, value]) => <span key={name} class="muted">{name}: <code>{value}</code></span>)}
        </p>
        {failure?.mayHaveActed && !method.reads && (
          <Notice tone="bad" title="It may have acted">Nobody knows whether C1 did what was asked. Look there before you call again.</Notice>
        )}
        {failure && <Failed failure={failure} />}
        {!failure && (
          view === "tree"
            ? <div class="code explorer-tree" tabIndex={0} role="region" aria-label="Answer as a tree"><Tree value={answer.json ?? {}} /></div>
            : (
              <>
                <pre class="code explorer-text" tabIndex={0}>{text.slice(0, longestShown)}</pre>
                {text.length > longestShown && <p class="muted small">The first {longestShown} characters of {text.length}. Copy takes all of it.</p>}
              </>
            )
        )}
      </Section>
    </div>
  );
}

/** The same call elsewhere. The key is not in it. */
function Snippets({ method, request, reason, blocked }: { method: Method; request: JsonObject; reason: string; blocked: boolean }) {
  const { who, teams } = useSession();
  const [kind, choose] = useState<"curl" | "grpcurl" | "ts">(method.streams ? "grpcurl" : "curl");
  const call = { method, request, origin: location.origin, team: teams.length > 1 ? who.team : undefined, reason: reason || undefined };
  const text = kind === "curl" ? curlSnippet(call) : kind === "grpcurl" ? grpcurlSnippet(call) : typescriptSnippet(call);
  const options = ([["curl", "curl"], ["grpcurl", "grpcurl"], ["ts", "TypeScript"]] as const).filter(([name]) => !(method.streams && name === "curl"));
  return (
    <Section title="The same call elsewhere" about={<>Your key belongs in the environment variable <code>KEY</code>.</>} actions={
      <>
        <CopyButton text={text} what={kind === "ts" ? "TypeScript" : kind} label="Copy" />
        <Switch label="The language" value={kind} options={options} onChange={choose} />
      </>
    }>
      {blocked && <p class="muted small">The request is not right yet: this is as far as it reads.</p>}
      <pre class="code" tabIndex={0}>{text}</pre>
    </Section>
  );
}

/** A choice of a few, side by side. */
function Switch<T extends string>({ label, value, options, onChange }: { label: string; value: T; options: readonly (readonly [T, string])[]; onChange: (value: T) => void }) {
  return (
    <span class="switch" role="group" aria-label={label}>
      {options.map(([name, title]) => (
        <button key={name} type="button" aria-pressed={name === value} onClick={() => onChange(name)}>{title}</button>
      ))}
    </span>
  );
}
