import type { MessageInitShape } from "@bufbuild/protobuf";
import type { AuditService, QueryResponse, Record as AuditRecord, RecordFilterSchema, TailResponse } from "@c1proxy/client/gen/c1proxy/v1/audit_pb";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { tail } from "@c1proxy/client/helpers/tail";
import { type Failure, failureOf } from "../failure";

export type Filter = MessageInitShape<typeof RecordFilterSchema>;

/** How the live tail is. */
export type Live =
  | { readonly kind: "off" | "connecting" | "live" | "paused" }
  /** It broke off, and is resumed at a time. */
  | { readonly kind: "waiting"; readonly at: number }
  /** It was refused: to try again is no help by itself. */
  | { readonly kind: "refused"; readonly failure: Failure };

/** What the view shows. */
export interface FeedState {
  /** The newest first. Undefined until something was answered. */
  readonly rows: readonly AuditRecord[] | undefined;
  readonly loading: boolean;
  readonly failure: Failure | undefined;
  /** The token of the page before these rows; empty if there is none. */
  readonly older: string;
  readonly loadingOlder: boolean;
  readonly olderFailure: Failure | undefined;
  /** The log of the replica that answered. */
  readonly log: string;
  readonly allTeams: boolean;
  readonly live: Live;
  /** How many records have come since the feed began. */
  readonly arrived: number;
  /** Whether older rows were dropped to make room for new ones. */
  readonly dropped: boolean;
  /** Whether another replica's log answers than at first. */
  readonly moved: boolean;
}

/** The most rows that the tail lets grow. */
export const mostRows = 1000;
const pageSize = 100;

/** A stream that says nothing for so long is taken for dead: it is never silent for more than ten seconds. */
const silence = 30_000;

const begun: FeedState = {
  rows: undefined, loading: true, failure: undefined, older: "", loadingOlder: false, olderFailure: undefined,
  log: "", allTeams: false, live: { kind: "off" }, arrived: 0, dropped: false, moved: false,
};

/**
 * The records that match a filter: the newest page, older ones on demand, and new
 * ones as they come. A tail that breaks off is resumed where it was.
 */
export class Feed {
  #state: FeedState = begun;
  readonly #client: Client<typeof AuditService>;
  readonly #filter: Filter;
  readonly #changed: (state: FeedState) => void;
  readonly #renew: (() => Promise<void>) | undefined;
  readonly #life = new AbortController();
  #tail: AbortController | undefined;
  #from: bigint | undefined;
  /** Gives up the stream, or the wait for the next one, so that it is resumed at once. */
  #again: (() => void) | undefined;

  /** renew asks whether the sign-in still holds, for which it is renewed; it throws if it does not. */
  constructor(client: Client<typeof AuditService>, filter: Filter, changed: (state: FeedState) => void, renew?: () => Promise<void>) {
    this.#client = client;
    this.#filter = filter;
    this.#changed = changed;
    this.#renew = renew;
  }

  get state(): FeedState {
    return this.#state;
  }

  /** Begins. The tail is begun before the page is asked for, so that nothing falls between them. */
  start(live: boolean): void {
    if (live) this.resume();
    void this.reload();
  }

  /** Gives up all that runs. */
  stop(): void {
    this.#life.abort();
    this.#tail?.abort();
  }

  /** Asks for the newest page. */
  async reload(): Promise<void> {
    this.#set({ loading: true, failure: undefined });
    try {
      const answer = await this.#page("");
      if (answer.log !== this.#state.log && this.#state.log !== "") this.#moveTo(answer.log);
      const { log, allTeams, nextPageToken: older } = answer;
      this.#set({ loading: false, log, allTeams, older, rows: merge(this.#state.rows ?? [], answer.records) });
    } catch (thrown) {
      this.#set({ loading: false, failure: failureOf(thrown) });
    }
  }

  /** Adds the page of records before these. The tail is paused, for it would push them out. */
  async loadOlder(): Promise<void> {
    if (this.#state.older === "" || this.#state.loadingOlder) return;
    this.pause();
    this.#set({ loadingOlder: true, olderFailure: undefined });
    try {
      const answer = await this.#page(this.#state.older);
      this.#set({ loadingOlder: false, older: answer.nextPageToken, rows: merge(this.#state.rows ?? [], answer.records) });
    } catch (thrown) {
      this.#set({ loadingOlder: false, olderFailure: failureOf(thrown) });
    }
  }

  /** Stops the tail; resume goes on where it was. */
  pause(): void {
    if (this.#tail === undefined) return;
    this.#tail.abort();
    this.#tail = undefined;
    this.#set({ live: { kind: "paused" } });
  }

  /** Begins the tail, or goes on with it, at once. */
  resume(): void {
    if (this.#tail !== undefined) {
      this.#again?.();
      return;
    }
    if (this.#life.signal.aborted) return;
    this.#tail = new AbortController();
    void this.#follow(this.#tail.signal);
  }

  /** A page of the log that is shown. Where replicas answer in turn, it is asked for until that one does. */
  async #page(pageToken: string): Promise<QueryResponse> {
    for (let attempt = 1; ; attempt++) {
      const answer = await this.#client.query({ filter: this.#filter, pageSize, pageToken }, { signal: this.#life.signal });
      const free = this.#state.log === "" || (pageToken === "" && this.#tail === undefined);
      if (free || answer.log === this.#state.log) return answer;
      if (attempt === 6) {
        throw new ConnectError(`the log ${answer.log} answers in turn with ${this.#state.log}: open the console at one replica’s own address`, Code.Aborted);
      }
    }
  }

  /** Keeps the tail up until it is paused or refused. A stream that says nothing for long is given up and resumed. */
  async #follow(signal: AbortSignal): Promise<void> {
    let renewed = false; // since the last answer
    while (!signal.aborted) {
      const stream = new AbortController();
      const give = () => stream.abort();
      signal.addEventListener("abort", give);
      this.#again = give;
      let timer = setTimeout(give, silence);
      try {
        this.#set({ live: { kind: "connecting" } });
        const request = { filter: this.#filter, ...(this.#from === undefined ? {} : { from: this.#from }) };
        const onBreak = (_: unknown, wait: number) => {
          clearTimeout(timer);
          timer = setTimeout(give, wait + silence);
          if (!signal.aborted) this.#set({ live: { kind: "waiting", at: Date.now() + wait } });
        };
        for await (const answer of tail(this.#client, request, { signal: stream.signal, onBreak })) {
          clearTimeout(timer);
          timer = setTimeout(give, silence);
          if (signal.aborted) return;
          renewed = false;
          this.#take(answer);
        }
      } catch (thrown) {
        if (signal.aborted) return;
        const failure = failureOf(thrown);
        if ((failure.code === Code.FailedPrecondition || failure.code === Code.OutOfRange) && this.#from !== undefined) {
          // It is another replica's log, whose name its answer says, or that place is gone.
          this.#from = undefined;
          await new Promise((resolve) => setTimeout(resolve, 500));
          void this.reload();
          continue;
        }
        if (failure.code === Code.Unauthenticated && !renewed && this.#renew) {
          clearTimeout(timer);
          this.#set({ live: { kind: "connecting" } });
          renewed = await this.#renew().then(() => true, () => false);
          if (signal.aborted) return;
          if (renewed) continue;
        }
        this.#tail = undefined;
        this.#set({ live: { kind: "refused", failure } });
        return;
      } finally {
        clearTimeout(timer);
        signal.removeEventListener("abort", give);
        stream.abort();
      }
    }
  }

  #take(answer: TailResponse): void {
    if (answer.log !== this.#state.log && this.#state.log !== "") {
      this.#moveTo(answer.log);
      void this.reload();
    }
    this.#from = answer.next;
    this.#set({ live: { kind: "live" }, log: answer.log, allTeams: answer.allTeams });
    if (answer.records.length > 0) this.#add(answer.records);
  }

  #add(records: readonly AuditRecord[]): void {
    const before = this.#state.rows ?? [];
    const rows = merge(before, records);
    const fresh = rows.length - before.length;
    if (rows.length <= mostRows) this.#set({ rows, arrived: this.#state.arrived + fresh });
    else this.#set({ rows: rows.slice(0, mostRows), arrived: this.#state.arrived + fresh, dropped: true, older: "" });
  }

  /** Begins anew with another log, of which nothing that is shown is true. */
  #moveTo(log: string): void {
    this.#from = undefined;
    this.#set({ log, rows: [], older: "", dropped: false, moved: true });
  }

  #set(change: Partial<FeedState>): void {
    if (this.#life.signal.aborted) return;
    this.#state = { ...this.#state, ...change };
    this.#changed(this.#state);
  }
}

/** Rows and more of them, the newest first, none twice. */
function merge(rows: readonly AuditRecord[], more: readonly AuditRecord[]): AuditRecord[] {
  const known = new Set(rows.map((row) => row.seq));
  const fresh = more.filter((row) => !known.has(row.seq));
  return [...rows, ...fresh].sort((a, b) => (a.seq < b.seq ? 1 : a.seq > b.seq ? -1 : 0));
}
