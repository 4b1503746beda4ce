import type { ExplainResponse, Step } from "@c1proxy/client/gen/c1proxy/v1/gateway_pb";
import { Badge, type Tone } from "../ui";

/** What the policy says of a call, in a word. */
export function verdictOf(explained: ExplainResponse): readonly [words: string, tone: Tone] {
  if (explained.pending) return ["Depends on the request", "info"];
  if (!explained.allowed) return ["Refused", "bad"];
  return explained.shadow ? ["Allowed, refused without shadow", "warn"] : ["Allowed", "good"];
}

const outcomes: Readonly<Record<string, string>> = {
  allows: "allows it",
  pending: "depends on the request",
  no_match: "is not about this method",
  left_out: "leaves the method out",
  needs_reason: "wants a reason",
  condition_false: "its condition does not hold",
  condition_failed: "its condition could not be decided",
};

/** What the policy says of a call, and what each rule does. */
export function Explained({ explained }: { explained: ExplainResponse }) {
  return (
    <div class="explained">
      <p>{sentence(explained.text)}</p>
      {explained.shadow && <p>Without shadow it would be refused: {explained.shadow}</p>}
      {explained.steps.length === 0
        ? <p>Your team has no rules.</p>
        : (
          <ol class="steps" aria-label="What each rule says">
            {explained.steps.map((step) => <StepLine key={step.rule} step={step} />)}
          </ol>
        )}
    </div>
  );
}

function StepLine({ step }: { step: Step }) {
  const tone: Tone = step.outcome === "allows" ? "good" : step.outcome === "no_match" ? "neutral" : step.outcome === "pending" ? "info" : "warn";
  return (
    <li>
      <span class="row">
        <code>{step.rule}</code>
        <Badge tone={tone}>{outcomes[step.outcome] ?? step.outcome}</Badge>
        {step.decides && <span class="muted small">decides</span>}
        {step.shadow && <span class="muted small">in shadow</span>}
      </span>
      {step.why && step.why !== outcomes[step.outcome] && <span class="small soft">{step.why}{step.cause && `: ${step.cause}`}</span>}
    </li>
  );
}

function sentence(text: string): string {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) || whole === "" ? whole : `${whole}.`;
}
