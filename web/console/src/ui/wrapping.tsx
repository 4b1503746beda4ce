import { Fragment } from "preact";

/** A name of code, such as Service/MethodOfManyWords, that is broken between its words where a line is too short. */
export function Wrapping({ of }: { of: string }) {
  return <>{of.split(/(?<=[./_])|(?<=[a-z0-9])(?=[A-Z])/).map((part, i) => <Fragment key={i}>{i > 0 && <wbr />}{part}</Fragment>)}</>;
}
