import type { MessageInitShape } from "@bufbuild/protobuf";
import type { AuditService, QueryResponse, Record as AuditRecord, RecordFilterSchema } from "@c1proxy/client/gen/c1proxy/v1/audit_pb";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { type Failure, failureOf } from "../failure";

export type Filter = MessageInitShape<typeof RecordFilterSchema>;

/** How the live tail is. */
export type Live =
  | { readonly kind: "off" | "connecting" | "live" | "paused" }
  /** It broke off, and is tried again at a time. */
  | { readonly kind: "waiting"; readonly at: number; readonly failure: Failure | undefined }
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

/** A stream that says nothing for so long is taken for dead. */
const silence = 45_000;
const firstWait = 500;
const longestWait = 30_000;

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
  readonly #life = new AbortController();
  #tail: AbortController | undefined;
  #from: bigint | undefined;
  #wake: (() => void) | undefined;

  constructor(client: Client<typeof AuditService>, filter: Filter, changed: (state: FeedState) => void) {
    this.#client = client;
    this.#filter = filter;
    this.#changed = changed;
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
    this.#wake?.();
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
    this.#wake?.();
    this.#set({ live: { kind: "paused" } });
  }

  /** Begins the tail, or goes on with it, at once. */
  resume(): void {
    if (this.#tail !== undefined) {
      this.#wake?.();
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
        throw new ConnectError(`the log ${answer.log} answers in turn with ${this.#state.log}: open the console at one replica's own address`, Code.Aborted);
      }
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    let wait = firstWait;
    while (!signal.aborted) {
      this.#set({ live: { kind: "connecting" } });
      let failure: Failure | undefined;
      try {
        if (await this.#read(signal)) wait = firstWait;
      } catch (thrown) {
        failure = failureOf(thrown);
      }
      if (signal.aborted) return;
      if (failure && isFinal(failure)) {
        this.#tail = undefined;
        this.#set({ live: { kind: "refused", failure } });
        return;
      }
      const pause = Math.max(failure?.retryAfter ?? 0, wait * (0.75 + Math.random() / 2));
      wait = Math.min(wait * 2, longestWait);
      this.#set({ live: { kind: "waiting", at: Date.now() + pause, failure } });
      await this.#sleep(pause);
    }
  }

  /** Reads one stream to its end, and tells whether anything came by it. */
  async #read(signal: AbortSignal): Promise<boolean> {
    const stream = new AbortController();
    const give = () => stream.abort();
    signal.addEventListener("abort", give);
    let timer = setTimeout(give, silence);
    let came = false;
    try {
      const request = { filter: this.#filter, ...(this.#from === undefined ? {} : { from: this.#from }) };
      for await (const answer of this.#client.tail(request, { signal: stream.signal })) {
        clearTimeout(timer);
        timer = setTimeout(give, silence);
        if (signal.aborted) return came;
        came = true;
        if (answer.log !== this.#state.log && this.#state.log !== "") {
          this.#moveTo(answer.log);
          void this.reload();
        }
        this.#from = answer.next;
        this.#set({ live: { kind: "live" }, log: answer.log, allTeams: answer.allTeams });
        if (answer.records.length > 0) this.#add(answer.records);
      }
    } catch (thrown) {
      if (!came || isFinal(failureOf(thrown))) throw thrown;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", give);
      stream.abort();
    }
    return came;
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

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #set(change: Partial<FeedState>): void {
    if (this.#life.signal.aborted) return;
    this.#state = { ...this.#state, ...change };
    this.#changed(this.#state);
  }
}

/** Whether the same again would be answered the same. */
function isFinal(failure: Failure): boolean {
  return [Code.Unauthenticated, Code.PermissionDenied, Code.InvalidArgument, Code.Unimplemented, Code.NotFound, Code.OutOfRange, Code.FailedPrecondition].includes(failure.code);
}

/** Rows and more of them, the newest first, none twice. */
function merge(rows: readonly AuditRecord[], more: readonly AuditRecord[]): AuditRecord[] {
  const known = new Set(rows.map((row) => row.seq));
  const fresh = more.filter((row) => !known.has(row.seq));
  return [...rows, ...fresh].sort((a, b) => (a.seq < b.seq ? 1 : a.seq > b.seq ? -1 : 0));
}
