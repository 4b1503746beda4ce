import type { DescService } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, type Interceptor, type Transport } from "@connectrpc/connect";
import { GatewayService, type WhoAmIResponse } from "@c1proxy/client/gen/c1proxy/v1/gateway_pb";
import { type ComponentChildren, createContext } from "preact";
import { useContext, useEffect, useMemo, useReducer } from "preact/hooks";
import { clientOf, transportFor } from "./api";
import { loadConfig } from "./config";
import { type Failure, failureOf } from "./failure";
import { forgetSignIn, keep, recall } from "./kept";
import { begin, finish, isFinal, renew, revoke, SignInError, takeCallback, type Tokens } from "./oidc";
import { exclusively, newId, Siblings } from "./siblings";

/** Who is signed in, and how to call as that one. */
export interface Session {
  /** Who the caller is to c1proxy. */
  readonly who: WhoAmIResponse;
  readonly transport: Transport;
  /** A client of a service, the same one for the same service. */
  client<S extends DescService>(service: S): Client<S>;
  /** The teams that the caller may call for, if there are several; one of them is who.team. */
  readonly teams: readonly string[];
  chooseTeam(team: string): void;
  /** When the sign-in ends for good, in milliseconds; undefined if that is not known, or it is renewed. */
  readonly ends: number | undefined;
  /** Signs in again at the issuer, and comes back to here. */
  signInAgain(): Promise<void>;
  /** Asks anew who the caller is: its rules may have changed. */
  refresh(): Promise<void>;
  signOut(): void;
}

/** One who may see what the same one did before, in a text that is nobody else's. */
export function personOf({ tenant, team, caller, subject }: WhoAmIResponse): string {
  return JSON.stringify([tenant, team, caller, subject]);
}

/** What is kept of a sign-in while the tab lives: the key or the tokens, and the team. */
interface Kept {
  /** What a duplicate of the tab knows the sign-in by. */
  readonly id?: string | undefined;
  readonly key?: string | undefined;
  readonly tokens?: Tokens | undefined;
  readonly team?: string | undefined;
  readonly teams?: readonly string[] | undefined;
}

/** Where the sign-in is. */
export type SignIn =
  | { readonly kind: "starting" }
  /** Nobody is signed in; notice says why somebody is not any more, failure or problem why it did not work. */
  | { readonly kind: "out"; readonly notice?: string; readonly failure?: Failure; readonly problem?: string }
  | { readonly kind: "team"; readonly teams: readonly string[] }
  /** c1proxy did not say who the caller is, which may pass. */
  | { readonly kind: "unreachable"; readonly failure: Failure }
  | { readonly kind: "in"; readonly session: Session };

const Current = createContext<Session | undefined>(undefined);

/** The session; only below SessionProvider, while somebody is signed in. */
export function useSession(): Session {
  const session = useContext(Current);
  if (!session) throw new Error("useSession is used where nobody is signed in");
  return session;
}

export function SessionProvider({ session, children }: { session: Session; children: ComponentChildren }) {
  return <Current.Provider value={session}>{children}</Current.Provider>;
}

/** The sign-in and its steps. */
export function useSignIn(): SignInSteps {
  const [, changed] = useReducer((n: number) => n + 1, 0);
  const steps = useMemo(() => new SignInSteps(() => changed(undefined)), []);
  useEffect(() => {
    void steps.start();
    const shown = (event: PageTransitionEvent) => event.persisted && steps.shownAgain();
    const hidden = () => steps.putAway();
    addEventListener("pageshow", shown);
    addEventListener("pagehide", hidden);
    return () => {
      removeEventListener("pageshow", shown);
      removeEventListener("pagehide", hidden);
      steps.putAway();
    };
  }, [steps]);
  return steps;
}

/** How long before its end a token is renewed. */
const ahead = 45_000;

/** The steps from nobody to somebody who is signed in, and back. */
export class SignInSteps {
  state: SignIn = { kind: "starting" };
  #kept: Kept = {};
  /** Whether the tab's storage has it, which some browsers switch off. */
  #stored = false;
  // Counts the sign-ins: what an earlier one still has under way changes nothing.
  #round = 0;
  #renewing: Promise<void> | undefined;
  readonly #changed: () => void;
  readonly #siblings = new Siblings((id, tokens) => {
    if (id !== this.#kept.id) return;
    if (tokens) {
      this.#take(tokens);
      return;
    }
    forgetSignIn();
    this.leave("You signed out in another tab.");
  });

  constructor(changed: () => void) {
    this.#changed = changed;
  }

  /** Takes the issuer's answer if the page was opened with one, or what the tab has kept. */
  async start(): Promise<void> {
    this.#siblings.listen();
    const callback = takeCallback();
    const kept = recall<Kept>("session");
    const signedIn = kept?.key !== undefined || kept?.tokens !== undefined;
    if (callback && (callback.begun || !signedIn)) {
      keep("session", undefined); // whoever begins anew is not who was there before
      try {
        const { tokens, team } = await finish(await loadConfig(), callback);
        await this.#enter({ tokens, team });
      } catch (thrown) {
        this.#show({ kind: "out", problem: problemOf(thrown) });
      }
      return;
    }
    if (kept && signedIn) await this.#enter(kept);
    else this.#show({ kind: "out" });
  }

  /** Signs in by an API key. */
  async byKey(key: string): Promise<void> {
    await this.#enter({ key });
  }

  /** Signs in at the issuer; the page is left. */
  async byIssuer(): Promise<void> {
    try {
      await begin(await loadConfig(), this.#kept.team);
    } catch (thrown) {
      this.#show({ kind: "out", problem: problemOf(thrown) });
    }
  }

  /** Calls for a team from now on. */
  async forTeam(team: string): Promise<void> {
    await this.#enter({ ...this.#kept, team });
  }

  /** Tries again with what is there. */
  async again(): Promise<void> {
    await this.#enter(this.#kept);
  }

  /** The page comes out of the browser's back/forward cache: the tab may have signed out since. */
  shownAgain(): void {
    this.#siblings.listen();
    if (this.#stored && recall<Kept>("session") === undefined) this.leave("");
  }

  /** The page is left, and may be kept for the browser's Back. */
  putAway(): void {
    this.#siblings.rest();
  }

  /** Forgets the sign-in: with a notice because it is over, without one because the user wants so. */
  leave(notice?: string): void {
    if (this.#kept.id && notice === undefined) void this.#siblings.tell(this.#kept.id);
    const refresh = this.#kept.tokens?.refresh;
    if (refresh && notice === undefined) {
      // It expires by itself where the issuer does not take it back.
      void loadConfig().then((config) => revoke(config, refresh)).catch(() => undefined);
    }
    this.#round++;
    this.#kept = {};
    this.#stored = false;
    if (notice === undefined) forgetSignIn();
    else keep("session", undefined);
    this.#show(!notice ? { kind: "out" } : { kind: "out", notice });
  }

  async #enter(kept: Kept): Promise<void> {
    const round = ++this.#round;
    this.#kept = { id: newId(), ...kept };
    let entered = false;
    const whenRefused: Interceptor = (next) => async (request) => {
      try {
        return await next(request);
      } catch (thrown) {
        const refused = ConnectError.from(thrown).code === Code.Unauthenticated;
        if (refused && entered && round === this.#round) {
          this.leave("Your sign-in is no longer good: it has expired, or was taken back. Sign in again, and you are back where you were.");
        }
        throw thrown;
      }
    };
    const transport = transportFor({ token: () => this.#token(), team: kept.team }, whenRefused);
    const clients = new Map<string, unknown>();
    const client = <S extends DescService>(service: S): Client<S> => {
      const made = (clients.get(service.typeName) as Client<S> | undefined) ?? clientOf(service, transport);
      clients.set(service.typeName, made);
      return made;
    };
    const show = (who: WhoAmIResponse) => {
      if (round !== this.#round) return;
      entered = true;
      const { tokens, teams } = this.#kept;
      this.#show({
        kind: "in",
        session: {
          who,
          transport,
          client,
          teams: teams ?? [],
          chooseTeam: (team) => void this.forTeam(team),
          ends: endOf(tokens),
          signInAgain: async () => begin(await loadConfig(), who.team),
          refresh: async () => show(await client(GatewayService).whoAmI({})),
          signOut: () => this.leave(),
        },
      });
    };
    try {
      const who = await client(GatewayService).whoAmI({});
      if (round !== this.#round) return;
      keep("session", this.#kept);
      this.#stored = recall("session") !== undefined;
      show(who);
    } catch (thrown) {
      if (round === this.#round) this.#notEntered(failureOf(thrown));
    }
  }

  #notEntered(failure: Failure): void {
    if (failure.reason === "TEAM_REQUIRED" || failure.reason === "TEAM_DENIED") {
      const teams = (failure.facts["teams"] ?? "").split(/,\s*/).filter(Boolean);
      if (teams.length > 0) {
        this.#kept = { ...this.#kept, team: undefined, teams };
        keep("session", this.#kept);
        this.#show({ kind: "team", teams });
        return;
      }
    }
    const passing = [Code.Unavailable, Code.ResourceExhausted, Code.DeadlineExceeded, Code.Internal, Code.Unknown];
    if (passing.includes(failure.code)) {
      this.#show({ kind: "unreachable", failure });
      return;
    }
    this.#kept = {};
    keep("session", undefined);
    this.#show({ kind: "out", failure });
  }

  /** What to show with the next call; a token that is about to expire is renewed first. */
  async #token(): Promise<string> {
    const { key, tokens } = this.#kept;
    if (key) return key;
    if (tokens?.refresh && tokens.expires !== undefined && tokens.expires - Date.now() < ahead) {
      this.#renewing ??= this.#renew(tokens.refresh).finally(() => {
        this.#renewing = undefined;
      });
      await this.#renewing;
    }
    const access = this.#kept.tokens?.access;
    if (!access) throw new ConnectError("nobody is signed in", Code.Unauthenticated);
    return access;
  }

  /** Renews the tokens, unless a duplicate of the tab has meanwhile: issuers take a refresh token that is used twice for stolen. */
  async #renew(refresh: string): Promise<void> {
    const { id = "" } = this.#kept;
    await exclusively(id, async () => {
      if (this.#kept.tokens?.refresh !== refresh) return;
      try {
        const tokens = await renew(await loadConfig(), refresh);
        await this.#siblings.tell(id, tokens);
        if (this.#kept.tokens?.refresh === refresh) this.#take(tokens);
      } catch (thrown) {
        // The token may still be good for a while; if not, c1proxy says so.
        if (isFinal(thrown) && this.#kept.tokens?.refresh === refresh) this.#take({ ...this.#kept.tokens, refresh: undefined });
      }
    });
  }

  /** Goes on with other tokens of the same sign-in. */
  #take(tokens: Tokens): void {
    this.#kept = { ...this.#kept, tokens };
    keep("session", this.#kept);
    if (this.state.kind === "in") this.#show({ kind: "in", session: { ...this.state.session, ends: endOf(tokens) } });
  }

  #show(state: SignIn): void {
    this.state = state;
    this.#changed();
  }
}

/** When a sign-in with these tokens ends for good. */
function endOf(tokens: Tokens | undefined): number | undefined {
  return tokens?.refresh ? undefined : tokens?.expires;
}

function problemOf(thrown: unknown): string {
  if (thrown instanceof SignInError) return thrown.message;
  return "c1proxy does not say how to sign in: it cannot be reached. Load the page again.";
}
