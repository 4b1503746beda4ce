import { begin } from "../under-way";
import type { Method } from "./catalog";
import type { Answer } from "./invoke";

/** The one call of a method that is under way, and the last answer. */
export class Running {
  #answer: Answer | undefined;
  #controller: AbortController | undefined;
  readonly #changes = new EventTarget();

  get answer(): Answer | undefined {
    return this.#answer;
  }

  get calling(): boolean {
    return this.#controller !== undefined;
  }

  /** Makes the call, unless one is under way: of what acts, from anywhere in the console. */
  async run(method: Method, make: (signal: AbortSignal) => Promise<Answer>): Promise<void> {
    if (this.#controller) return;
    const end = method.reads ? () => {} : begin(method.id);
    if (!end) return;
    const controller = new AbortController();
    this.#set(undefined, controller);
    try {
      this.#set(await make(controller.signal), undefined);
    } finally {
      end();
    }
  }

  /** Gives the call up. */
  cancel(): void {
    this.#controller?.abort();
  }

  /** Listens for changes; the function that it returns ends that. */
  listen(changed: () => void): () => void {
    this.#changes.addEventListener("change", changed);
    return () => this.#changes.removeEventListener("change", changed);
  }

  #set(answer: Answer | undefined, controller: AbortController | undefined): void {
    this.#answer = answer;
    this.#controller = controller;
    this.#changes.dispatchEvent(new Event("change"));
  }
}

const left = new Map<string, Running>();

/**
 * The calls of a method by one person. Those of one that acts outlive the view that
 * makes them: who comes back to it finds what is under way, or its answer.
 */
export function runningOf(person: string, method: Method): Running {
  const found = left.get(`${person} ${method.id}`);
  return found ?? new Running();
}

/** The view that shows the calls goes. */
export function leave(person: string, method: Method, running: Running): void {
  const name = `${person} ${method.id}`;
  if (method.reads) running.cancel();
  else if (running.calling) left.set(name, running);
  else left.delete(name);
}
