import type { DescService } from "@bufbuild/protobuf";
import type { Client, Interceptor, Transport } from "@connectrpc/connect";
import { Code, ConnectError } from "@connectrpc/connect";
import { GatewayService, type WhoAmIResponse } from "@c1proxy/client/gen/c1proxy/v1/gateway_pb";
import { type ComponentChildren, createContext } from "preact";
import { useCallback, useContext, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { clientOf, type Credential, transportFor } from "./api";
import { type Failure, failureOf } from "./failure";
import { keep, recall } from "./kept";

/** What the page is told before anybody has signed in: /console/config.json. */
export interface Config {
  readonly issuer?: string;
  readonly client_id?: string;
  readonly scopes?: readonly string[];
  readonly resource?: string;
  readonly version?: string;
}

/** Who is signed in, and how to call as that one. */
export interface Session {
  /** Who the caller is to c1proxy. */
  readonly who: WhoAmIResponse;
  readonly transport: Transport;
  /** A client of a service, the same one for the same service. */
  client<S extends DescService>(service: S): Client<S>;
  /** The teams that the caller may call for; one of them is who.team. Empty for one in a single team. */
  readonly teams: readonly string[];
  chooseTeam(team: string): void;
  /** Asks anew who the caller is: its rules may have changed. */
  refresh(): Promise<void>;
  signOut(): void;
}

/** A sign-in that is kept for the life of the tab. */
export interface Kept {
  readonly token: string;
  readonly team?: string | undefined;
  readonly teams?: readonly string[] | undefined;
}

export type SignIn =
  | { readonly kind: "starting" }
  | { readonly kind: "out"; readonly failure?: Failure | undefined; readonly notice?: string | undefined }
  | { readonly kind: "team"; readonly kept: Kept; readonly teams: readonly string[] }
  | { readonly kind: "unreachable"; readonly kept: Kept; readonly failure: Failure }
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
export function useSignIn(): { signIn: SignIn; enter: (kept: Kept) => Promise<void>; leave: () => void } {
  const [signIn, set] = useState<SignIn>({ kind: "starting" });
  const attempt = useRef(0);

  const leave = useCallback((notice?: string) => {
    attempt.current++;
    keep("session", undefined);
    set({ kind: "out", notice });
  }, []);

  const enter = useCallback(async (kept: Kept) => {
    const mine = ++attempt.current;
    const expired: Interceptor = (next) => async (request) => {
      try {
        return await next(request);
      } catch (thrown) {
        const error = ConnectError.from(thrown);
        if (error.code === Code.Unauthenticated && mine === attempt.current && entered) {
          leave("Your sign-in is no longer good. Sign in again: you come back to where you were.");
        }
        throw thrown;
      }
    };
    let entered = false;
    const credential: Credential = { token: async () => kept.token, team: kept.team };
    const transport = transportFor(credential, expired);
    const clients = new Map<string, unknown>();
    const client = <S extends DescService>(service: S): Client<S> => {
      const made = (clients.get(service.typeName) as Client<S> | undefined) ?? clientOf(service, transport);
      clients.set(service.typeName, made);
      return made;
    };
    const show = (who: WhoAmIResponse) => {
      if (mine !== attempt.current) return;
      entered = true;
      set({
        kind: "in",
        session: {
          who,
          transport,
          client,
          teams: kept.teams ?? [],
          chooseTeam: (team) => void enter({ ...kept, team }),
          refresh: async () => show(await client(GatewayService).whoAmI({})),
          signOut: () => leave(),
        },
      });
    };
    try {
      const who = await client(GatewayService).whoAmI({});
      keep("session", kept);
      show(who);
    } catch (thrown) {
      if (mine !== attempt.current) return;
      const failure = failureOf(thrown);
      if (failure.reason === "TEAM_REQUIRED" || (failure.reason === "TEAM_DENIED" && kept.teams)) {
        const teams = (failure.facts["teams"] ?? "").split(/,\s*/).filter(Boolean);
        set({ kind: "team", kept: { ...kept, team: undefined, teams }, teams });
      } else if (failure.code === Code.Unavailable || failure.code === Code.ResourceExhausted) {
        set({ kind: "unreachable", kept, failure });
      } else {
        keep("session", undefined);
        set({ kind: "out", failure });
      }
    }
  }, [leave]);

  useEffect(() => {
    const kept = recall<Kept>("session");
    if (kept) void enter(kept);
    else set({ kind: "out" });
  }, [enter]);

  return useMemo(() => ({ signIn, enter, leave: () => leave() }), [signIn, enter, leave]);
}
