import { type DescField, type DescMessage, type DescOneof, type JsonObject, type JsonValue, type Registry, ScalarType } from "@bufbuild/protobuf";
import { createContext } from "preact";
import { useContext, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { checkKey, fromText, getField, hasPresence, type Input as Kind, inputOf, isObject, join, type Problem, setField, toText, zeroOf } from "../explorer/form";
import { Button, Checkbox, Field, firstControl, Input, Select, TextArea, useFocus } from "../ui";

/** What all inputs of a form share. */
export const FormContext = createContext<{
  readonly problems: readonly Problem[];
  readonly registry: Registry;
  /** Says what is wrong with an input whose text the request cannot hold. */
  setDraft(input: string, problem: Problem | undefined): void;
}>({ problems: [], registry: undefined as unknown as Registry, setDraft: () => {} });

/** The fields of a message. One of a choice (oneof) is shown at a time. */
export function MessageForm({ desc, value, path, onChange, root = false }: {
  desc: DescMessage; value: JsonObject; path: string; onChange: (value: JsonObject) => void; root?: boolean;
}) {
  if (desc.fields.length === 0) return <p class="muted small">{root ? "This method takes nothing." : "It has no fields."}</p>;
  return (
    <div class="explorer-fields">
      {desc.members.map((member) =>
        member.kind === "oneof"
          ? <Choice key={member.name} oneof={member} value={value} path={path} onChange={onChange} />
          : <FieldForm key={member.name} field={member} value={value} path={path} onChange={onChange} />)}
    </div>
  );
}

interface FieldProps {
  readonly field: DescField;
  /** The message that the field is of. */
  readonly value: JsonObject;
  readonly path: string;
  readonly onChange: (value: JsonObject) => void;
}

function FieldForm({ field, value, path, onChange }: FieldProps) {
  const at = join(path, field.jsonName);
  const held = getField(value, field);
  const set = (next: JsonValue | undefined) => onChange(setField(value, field, next));
  if (field.fieldKind === "list") return <ListForm field={field} held={held} path={at} set={set} />;
  if (field.fieldKind === "map") return <MapForm field={field} held={held} path={at} set={set} />;
  const input = inputOf(field);
  if (input.kind === "message") return <Nested field={field} desc={input.desc} held={held} path={at} set={set} />;
  return <ValueForm label={<Label field={field} />} input={input} held={held} path={at} set={set} optional={hasPresence(field)} />;
}

function Choice({ oneof, value, path, onChange }: { oneof: DescOneof; value: JsonObject; path: string; onChange: (value: JsonObject) => void }) {
  const chosen = oneof.fields.find((field) => getField(value, field) !== undefined);
  const choose = (name: string) => {
    const field = oneof.fields.find((one) => one.name === name);
    if (field) onChange(setField(value, field, zeroOf(inputOf(field))));
    else if (chosen) onChange(setField(value, chosen, undefined));
  };
  return (
    <fieldset class="explorer-group">
      <legend><code>{oneof.name}</code> <span class="muted">one of {oneof.fields.length}</span></legend>
      <Field label={`Which ${oneof.name}`} hideLabel>
        <Select value={chosen?.name ?? ""} onChange={(event) => choose(event.currentTarget.value)}>
          <option value="">none</option>
          {oneof.fields.map((field) => <option key={field.name} value={field.name}>{field.jsonName}</option>)}
        </Select>
      </Field>
      {chosen && <FieldForm key={chosen.name} field={chosen} value={value} path={path} onChange={onChange} />}
    </fieldset>
  );
}

interface HeldProps {
  readonly field: DescField;
  readonly held: JsonValue | undefined;
  readonly path: string;
  readonly set: (value: JsonValue | undefined) => void;
}

function Nested({ field, desc, held, path, set }: HeldProps & { desc: DescMessage }) {
  const [root, focus] = useFocus();
  const begin = () => {
    focus((group) => firstControl(group.lastElementChild) ?? firstControl(group));
    set({});
  };
  const remove = () => {
    focus(firstControl);
    set(undefined);
  };
  if (held === undefined) return <Absent root={root} field={field} add={begin} />;
  return (
    <fieldset class="explorer-group" ref={root}>
      <legend><Label field={field} /> {!field.oneof && <Remove what={field.jsonName} onClick={remove} />}</legend>
      {isObject(held) ? <MessageForm desc={desc} value={held} path={path} onChange={set} /> : <Odd path={path} held={held} onReplace={begin} />}
    </fieldset>
  );
}

function ListForm({ field, held, path, set }: HeldProps) {
  const input = inputOf(field);
  const [root, focus] = useFocus();
  const items = Array.isArray(held) ? held : [];
  const keys = useKeys(items.length);
  const add = () => {
    focus((group) => firstControl(itemsIn(group).at(-1)));
    set([...items, zeroOf(input)]);
  };
  const change = (i: number, value: JsonValue) => set(items.map((one, j) => (i === j ? value : one)));
  const remove = (i: number) => {
    focus((group) => firstControl(itemsIn(group)[i] ?? itemsIn(group).at(-1) ?? group));
    keys.splice(i, 1);
    set(items.filter((_, j) => j !== i));
  };
  const clear = () => {
    focus(firstControl);
    set(undefined);
  };
  if (held === undefined) return <Absent root={root} field={field} add={add} />;
  if (!Array.isArray(held)) return <Odd root={root} path={path} held={held} onReplace={clear} />;
  return (
    <fieldset class="explorer-group" ref={root}>
      <legend><Label field={field} /> <Remove what={`all ${field.jsonName}`} onClick={clear} /></legend>
      {items.map((one, i) => (
        <div key={keys[i]} class="explorer-item">
          <Element input={input} name={`${field.jsonName} ${i + 1}`} value={one} path={`${path}[${i}]`} set={(value) => change(i, value ?? zeroOf(input))} />
          <Remove what={`${field.jsonName} ${i + 1}`} onClick={() => remove(i)} />
        </div>
      ))}
      <div><Button onClick={add}>Add another<span class="visually-hidden"> {field.jsonName}</span></Button></div>
    </fieldset>
  );
}

/** Keys of so many items, of which one that goes is taken out: the others keep theirs, and what was typed into them. */
function useKeys(length: number): number[] {
  const keys = useRef<number[]>([]);
  const made = useRef(0);
  keys.current.length = Math.min(keys.current.length, length);
  while (keys.current.length < length) keys.current.push(made.current++);
  return keys.current;
}

/** The items of a list or map, and not those within them. */
function itemsIn(group: HTMLElement): HTMLElement[] {
  return [...group.querySelectorAll<HTMLElement>(":scope > .explorer-item")];
}

function MapForm({ field, held, path, set }: HeldProps) {
  const input = inputOf(field);
  const [adding, setAdding] = useState(false);
  const [key, setKey] = useState("");
  const [root, focus] = useFocus();
  const clear = () => {
    focus(firstControl);
    setAdding(false);
    set(undefined);
  };
  if (held !== undefined && !isObject(held)) return <Odd root={root} path={path} held={held} onReplace={clear} />;
  const begin = () => {
    focus((group) => firstControl(itemsIn(group)[0]));
    setAdding(true);
  };
  if (held === undefined && !adding) return <Absent root={root} field={field} add={begin} />;
  const entries = Object.entries(held ?? {});
  const bad = Object.hasOwn(held ?? {}, key) ? "There is one of this name." : key === "" ? undefined : checkKey(field.fieldKind === "map" ? field.mapKey : ScalarType.STRING, key);
  const add = () => {
    if (bad) return;
    const next = Object.fromEntries([...entries, [key, zeroOf(input)]]);
    focus((group) => firstControl(itemsIn(group)[Object.keys(next).indexOf(key)]));
    set(next);
    setKey("");
  };
  const remove = (i: number) => {
    focus((group) => firstControl(itemsIn(group)[i] ?? group));
    set(Object.fromEntries(entries.filter((_, j) => j !== i)));
  };
  return (
    <fieldset class="explorer-group" ref={root}>
      <legend><Label field={field} /> <Remove what={`all ${field.jsonName}`} onClick={clear} /></legend>
      {entries.map(([name, one], i) => (
        <div key={name} class="explorer-item">
          <Element input={input} name={name || "the empty name"} value={one} path={`${path}[${JSON.stringify(name)}]`}
            set={(value) => set(Object.fromEntries(entries.map(([n, v]) => [n, n === name ? (value ?? zeroOf(input)) : v])))} />
          <Remove what={name} onClick={() => remove(i)} />
        </div>
      ))}
      <div class="explorer-item">
        <Field label={`Name of a new value of ${field.jsonName}`} error={bad && `It ${bad.startsWith("There") ? "is taken" : bad}.`}>
          <Input mono value={key} onInput={(event) => setKey(event.currentTarget.value)} onKeyDown={(event) => { if (event.key === "Enter") { event.preventDefault(); add(); } }} />
        </Field>
        <Button onClick={add} disabled={Boolean(bad)}>Add</Button>
      </div>
    </fieldset>
  );
}

/** One of the values of a list or map. */
function Element({ input, name, value, path, set }: { input: Kind; name: string; value: JsonValue; path: string; set: (value: JsonValue | undefined) => void }) {
  const [root, focus] = useFocus();
  if (input.kind !== "message") return <ValueForm label={name} input={input} held={value} path={path} set={set} optional={false} />;
  const replace = () => {
    focus(firstControl);
    set({});
  };
  return (
    <fieldset class="explorer-group" ref={root}>
      <legend>{name}</legend>
      {isObject(value) ? <MessageForm desc={input.desc} value={value} path={path} onChange={set} /> : <Odd path={path} held={value} onReplace={replace} />}
    </fieldset>
  );
}

/** A value that is no message. */
function ValueForm({ label, input, held, path, set, optional }: {
  label: preact.ComponentChildren;
  input: Exclude<Kind, { kind: "message" }>;
  held: JsonValue | undefined;
  path: string;
  set: (value: JsonValue | undefined) => void;
  /** Whether to be absent is another thing than to be empty. */
  optional: boolean;
}) {
  const { problems } = useContext(FormContext);
  const [root, focus] = useFocus();
  const error = problems.find((problem) => problem.path === path)?.message;
  const said = error && `It ${error}.`;
  if (input.kind === "bool" && !optional && (held === undefined || typeof held === "boolean")) {
    return <div class="field"><Checkbox checked={held === true} onChange={(event) => set(event.currentTarget.checked)}>{label}</Checkbox></div>;
  }
  if (input.kind === "bool" || input.kind === "enum") {
    const names = "desc" in input ? input.desc.values.map((value) => value.name) : ["false", "true"];
    const text = held === undefined ? (optional ? "" : names[0] ?? "") : toText(input, held);
    return (
      <Field label={label} error={said}>
        <Select value={text} onChange={({ currentTarget: { value } }) => set(value === "" ? undefined : fromText(input, value))}>
          {optional && <option value="">not set</option>}
          {names.map((name) => <option key={name} value={name}>{name}</option>)}
          {text !== "" && !names.includes(text) && <option value={text}>{text}</option>}
        </Select>
      </Field>
    );
  }
  if (input.kind === "json") return <JsonInput label={label} input={input} held={held} path={path} set={set} error={said} />;
  const text = toText(input, held);
  const typed = (value: string) => set(value === "" && input.kind !== "text" ? undefined : fromText(input, value));
  return (
    <Field label={label} error={said} hint={hints[input.kind]}>
      <span class="with-button" ref={root}>
        <Input mono={input.kind !== "text"} value={text} inputMode={input.kind === "int" ? "numeric" : undefined} placeholder={optional && held === undefined ? "not set" : undefined}
          onInput={(event) => typed(event.currentTarget.value)} />
        {input.kind === "time" && <Button onClick={() => set(new Date().toISOString())}>Now</Button>}
        {optional && held !== undefined && <Remove what={path} onClick={() => { focus(firstControl); set(undefined); }} />}
      </span>
    </Field>
  );
}

const hints: Partial<Record<Kind["kind"], string>> = {
  time: "RFC 3339, such as 2026-01-31T09:30:00Z",
  duration: "Seconds, such as 90s or 1.5s",
  mask: "Paths with commas between, such as displayName,app.id",
  bytes: "Base64",
};

/** What has no fields of its own, as JSON. What is no JSON yet stays here. */
function JsonInput({ label, input, held, path, set, error }: {
  label: preact.ComponentChildren; input: Extract<Kind, { kind: "json" }>; held: JsonValue | undefined; path: string; set: (value: JsonValue | undefined) => void; error: string | undefined | "";
}) {
  const { setDraft } = useContext(FormContext);
  const [text, write] = useState(toText(input, held));
  const [bad, setBad] = useState(false);
  const id = useId();
  useLayoutEffect(() => {
    if (!bad) return;
    setDraft(id, { path, message: "is not JSON" });
    return () => setDraft(id, undefined);
  }, [bad, path]);
  const typed = (next: string) => {
    write(next);
    let value: JsonValue | undefined;
    try {
      value = next.trim() === "" ? undefined : fromText(input, next);
    } catch {
      setBad(true);
      return;
    }
    setBad(false);
    set(value);
  };
  return (
    <Field label={label} hint="JSON" error={bad ? "It is not JSON." : error}>
      <TextArea mono rows={3} value={text} onInput={(event) => typed(event.currentTarget.value)} />
    </Field>
  );
}

/** A field that is not there, and how to add it. */
function Absent({ root, field, add }: { root: (element: HTMLElement | null) => void; field: DescField; add: () => void }) {
  return (
    <div class="explorer-absent" ref={root}>
      <Button kind="quiet" onClick={add}>Add <code>{field.jsonName}</code></Button>
      <span class="muted small">{typeOf(field)}</span>
    </div>
  );
}

function Remove({ what, onClick }: { what: string; onClick: () => void }) {
  return <Button kind="quiet" icon="close" iconOnly onClick={onClick}>{`Remove ${what}`}</Button>;
}

/** A value that is of another kind than its field, such as the JSON view lets one write. */
function Odd({ root, path, held, onReplace }: { root?: (element: HTMLElement | null) => void; path: string; held: JsonValue; onReplace: () => void }) {
  return (
    <p class="field-error" ref={root ?? null}><span><code>{path}</code> is <code>{JSON.stringify(held).slice(0, 80)}</code>, which fits no input. </span><Button onClick={onReplace}>Replace</Button></p>
  );
}

function Label({ field }: { field: DescField }) {
  return <><code>{field.jsonName}</code> <span class="muted explorer-type">{typeOf(field)}</span></>;
}

function typeOf(field: DescField): string {
  const name = field.message?.typeName ?? field.enum?.typeName ?? (ScalarType[field.scalar as ScalarType] ?? "").toLowerCase();
  const short = name.slice(name.lastIndexOf(".") + 1);
  if (field.fieldKind === "map") return `map of ${short}`;
  return field.fieldKind === "list" ? `list of ${short}` : short;
}
