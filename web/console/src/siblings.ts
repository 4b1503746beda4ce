import type { Tokens } from "./oidc";

// A duplicate of a tab begins with the sign-in that the tab has kept. Such tabs tell
// each other what becomes of it; it is known by an id that is no secret.

interface Message {
  readonly id: string;
  /** What it goes on with; undefined where it is over. */
  readonly tokens?: Tokens | undefined;
}

/** What other tabs with the same sign-in are told, and tell. */
export class Siblings {
  #channel: BroadcastChannel | undefined;
  readonly #heard: (id: string, tokens: Tokens | undefined) => void;

  constructor(heard: (id: string, tokens: Tokens | undefined) => void) {
    this.#heard = heard;
  }

  /** Listens from now on. */
  listen(): void {
    if (this.#channel || typeof BroadcastChannel === "undefined") return;
    this.#channel = new BroadcastChannel("c1proxy.sign-in");
    this.#channel.onmessage = ({ data }: MessageEvent<Message>) => this.#heard(data.id, data.tokens);
  }

  /** Listens no more: a page that does is not kept for the browser's Back. */
  rest(): void {
    this.#channel?.close();
    this.#channel = undefined;
  }

  /** Tells of new tokens, or that the sign-in is over. They have heard it a moment later, when the promise resolves. */
  tell(id: string, tokens?: Tokens): Promise<void> {
    this.#channel?.postMessage({ id, tokens } satisfies Message);
    return new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Does something while no other tab does so under the same name. Pages that did not come by https know of none. */
export async function exclusively(name: string, work: () => Promise<void>): Promise<void> {
  if (navigator.locks) await navigator.locks.request(`c1proxy.${name}`, work);
  else await work();
}

/** A new sign-in's id. */
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
