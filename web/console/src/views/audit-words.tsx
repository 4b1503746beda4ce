import type { Record as AuditRecord } from "@c1proxy/client/gen/c1proxy/v1/audit_pb";
import { Icon, type IconName, type Tone } from "../ui";

/** Service/Method of package.Service/Method. */
export function procedureName(procedure: string): string {
  const [service = "", method = ""] = procedure.replace(/^\//, "").split("/");
  return method === "" ? service : `${service.slice(service.lastIndexOf(".") + 1)}/${method}`;
}

interface Words {
  readonly text: string;
  readonly tone: Tone;
  readonly icon: IconName;
}

/** Events after which somebody must look. */
const grave = new Set(["alarm", "gap", "recovered", "config_refused", "space_scarce"]);

/** What came of a record's call, in a word or two. */
export function resultOf(record: AuditRecord): Words {
  if (record.kind === "event") return grave.has(record.event) ? { text: "Look at this", tone: "bad", icon: "warning" } : { text: "Event", tone: "neutral", icon: "info" };
  if (record.kind === "denied") return { text: "Refused", tone: "warn", icon: "refused" };
  if (record.kind === "intent") return { text: "To be sent", tone: "neutral", icon: "right" };
  switch (record.outcome) {
    case "ok":
      return { text: "Done", tone: "good", icon: "check" };
    case "failed":
      return { text: "Failed", tone: "bad", icon: "warning" };
    case "indeterminate":
      return { text: "Unknown: look at C1", tone: "bad", icon: "warning" };
    case "not_sent":
      return { text: "Not sent", tone: "warn", icon: "refused" };
    default:
      return { text: record.outcome || record.kind, tone: "neutral", icon: "info" };
  }
}

/** What came of a record's call, with a sign and in words. */
export function Result({ record }: { record: AuditRecord }) {
  const { text, tone, icon } = resultOf(record);
  return <span class={`result ${tone}`}><Icon name={icon} />{text}</span>;
}

/** Rows that stand out: the call may have acted and nobody knows, or the log itself is in trouble. */
export function toneOf(record: AuditRecord): "bad" | "warn" | undefined {
  if (record.outcome === "indeterminate" || (record.kind === "event" && grave.has(record.event))) return "bad";
  return undefined;
}
