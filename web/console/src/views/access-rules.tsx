import type { Rule } from "@c1proxy/client/gen/c1proxy/v1/gateway_pb";
import { useSession } from "../session";
import { Badge, Empty, Section } from "../ui";

/** The rules by which the caller's team may call, in words. */
export function Rules() {
  const { who } = useSession();
  return (
    <Section title="What your team may call" about="The rules are asked in this order, and the first that allows a call decides. What none allows is refused.">
      {who.rules.length === 0
        ? <Empty title="Nothing">Team {who.team} has no rules: every call to C1 is refused. Ask c1proxy’s operator for one.</Empty>
        : <ol class="rules">{who.rules.map((rule) => <li key={rule.name} class="card"><RuleCard rule={rule} /></li>)}</ol>}
    </Section>
  );
}

function RuleCard({ rule }: { rule: Rule }) {
  return (
    <>
      <div class="row between">
        <h3><code>{rule.name}</code></h3>
        {rule.shadow && <Badge tone="info">In shadow</Badge>}
      </div>
      <p>{ruleWords(rule)}</p>
      <ul class="patterns">{rule.methods.map((pattern) => <li key={pattern}><code>{pattern}</code></li>)}</ul>
      {rule.condition && <pre class="code wrap" tabIndex={0} aria-label="Condition">{rule.condition}</pre>}
    </>
  );
}

/** A rule as a sentence; its patterns and its condition are shown beside it. */
export function ruleWords(rule: Rule): string {
  const all = rule.methods.some((pattern) => pattern === "c1.**/*" || pattern === "**/*");
  const kind = rule.class === "read" ? "Methods that only read" : rule.class === "write" ? "Methods that change something" : "All methods";
  const scope = all ? `${kind}${rule.class ? "" : " of C1"}` : `${kind}${rule.class ? "," : ""} of these names`;
  const conditions = [rule.condition ? "if the condition holds" : "", rule.requireReason ? "if a reason is stated" : ""].filter(Boolean).join(" and ");
  const draft = rule.includeDraft ? ", drafts included" : "";
  const shadow = rule.shadow && conditions ? " That is only tried out: for now calls are allowed without it." : "";
  return `${scope}${draft}${conditions ? `, ${conditions}` : ""}.${shadow}`;
}
