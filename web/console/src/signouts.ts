// A duplicate of a tab begins with the sign-in that the tab has kept: whoever signs out
// of one of them means both.

/** Tells other tabs of a sign-out, and hears of theirs. A sign-in is known by an id that is no secret. */
export class SignOuts {
  #channel: BroadcastChannel | undefined;
  readonly #heard: (id: string) => void;

  constructor(heard: (id: string) => void) {
    this.#heard = heard;
  }

  /** Listens from now on. */
  listen(): void {
    if (this.#channel || typeof BroadcastChannel === "undefined") return;
    this.#channel = new BroadcastChannel("c1proxy.signouts");
    this.#channel.onmessage = ({ data }) => this.#heard(String(data));
  }

  /** Listens no more: a page that does is not kept for the browser's Back. */
  rest(): void {
    this.#channel?.close();
    this.#channel = undefined;
  }

  /** Tells of a sign-out. */
  tell(id: string): void {
    this.#channel?.postMessage(id);
  }
}

/** A new sign-in's id. */
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
