import { type AllHTMLAttributes, type ComponentChildren, createContext, type SelectHTMLAttributes, type TextareaHTMLAttributes } from "preact";
import { useContext, useId } from "preact/hooks";
import { Icon } from "./icon";

interface Labelled {
  id: string;
  describedBy: string | undefined;
  invalid: boolean;
}

const FieldContext = createContext<Labelled | undefined>(undefined);

/** What an input takes. */
type InputProps = Omit<AllHTMLAttributes<HTMLInputElement>, "type" | "role"> & {
  type?: "text" | "password" | "search" | "number" | "datetime-local";
  mono?: boolean;
};

/** A label, its input, and what is said of it: a hint, and an error when there is one. */
export function Field({ label, hint, error, children, hideLabel = false }: {
  label: ComponentChildren;
  hint?: ComponentChildren;
  error?: ComponentChildren;
  children: ComponentChildren;
  hideLabel?: boolean;
}) {
  const id = useId();
  const describedBy = [hint ? `${id}-hint` : "", error ? `${id}-error` : ""].filter(Boolean).join(" ") || undefined;
  return (
    <div class="field">
      <label for={id} class={hideLabel ? "visually-hidden" : undefined}>{label}</label>
      <FieldContext.Provider value={{ id, describedBy, invalid: Boolean(error) }}>{children}</FieldContext.Provider>
      {hint && <p class="hint" id={`${id}-hint`}>{hint}</p>}
      {error && <p class="field-error" id={`${id}-error`}><Icon name="warning" />{error}</p>}
    </div>
  );
}

function useLabelled() {
  const field = useContext(FieldContext);
  return field ? { id: field.id, "aria-describedby": field.describedBy, "aria-invalid": field.invalid || undefined } : {};
}

/** A line of text. Browsers neither remember nor correct it. */
export function Input({ mono, type = "text", ...rest }: InputProps) {
  return (
    <input type={type as "text"} autocomplete="off" autocapitalize="off" spellcheck={false} {...useLabelled()} {...(rest as object)}
      class={`input${mono ? " mono" : ""}`} />
  );
}

/** A line to search by. */
export function SearchInput(props: InputProps) {
  return (
    <span class="search">
      <Icon name="search" />
      <Input {...props} type="search" />
    </span>
  );
}

export function TextArea(props: TextareaHTMLAttributes<HTMLTextAreaElement> & { mono?: boolean }) {
  const { mono, ...rest } = props;
  return <textarea autocomplete="off" spellcheck={!mono} rows={3} {...useLabelled()} {...rest} class={`input${mono ? " mono" : ""}`} />;
}

export function Select(props: SelectHTMLAttributes<HTMLSelectElement>) {
  return <select {...useLabelled()} {...props} class="input select" />;
}

/** A choice of yes or no with its label. */
export function Checkbox({ children, ...rest }: Omit<InputProps, "type" | "mono"> & { children: ComponentChildren }) {
  return <label class="checkbox"><input type="checkbox" {...(rest as object)} /><span>{children}</span></label>;
}
