import type * as OAuth from "oauth4webapi";
import type { Config } from "./config";
import { keep, recall } from "./kept";

// Signing in at an OIDC issuer: the authorization code with PKCE (RFC 7636), for a
// public client. The checks of answers and tokens are those of oauth4webapi, which
// is fetched when somebody signs in by an issuer.

/** What an issuer has given. */
export interface Tokens {
  readonly access: string;
  readonly refresh?: string | undefined;
  /** When the access token expires, in milliseconds; undefined if the issuer does not say. */
  readonly expires?: number | undefined;
}

/** A sign-in that went wrong, in words for who signs in. */
export class SignInError extends Error {
  override readonly name = "SignInError";
}

/** A sign-in that has begun, kept while the browser is at the issuer. */
interface Begun {
  readonly issuer: string;
  readonly state: string;
  readonly verifier: string;
  readonly nonce?: string | undefined;
  /** Where to come back to in the console. */
  readonly hash: string;
  readonly team?: string | undefined;
}

const slot = "oidc";

/** How long the issuer may take for an answer, in milliseconds: calls wait for it. */
const patience = 15_000;

/** Goes to the issuer. The promise fails if that cannot be; otherwise the page is left. */
export async function begin(config: Config, team?: string): Promise<void> {
  const { oauth, server } = await discover(config);
  const endpoint = server.authorization_endpoint;
  if (!endpoint) throw new SignInError("The issuer’s discovery document names no authorization_endpoint.");
  const scopes = scopesOf(config);
  const begun: Begun = {
    issuer: server.issuer,
    state: oauth.generateRandomState(),
    verifier: oauth.generateRandomCodeVerifier(),
    nonce: scopes.includes("openid") ? oauth.generateRandomNonce() : undefined,
    hash: location.hash,
    team,
  };
  const to = new URL(endpoint);
  const values: Record<string, string | undefined> = {
    response_type: "code",
    client_id: config.client_id,
    redirect_uri: redirectURI(),
    scope: scopes.join(" ") || undefined,
    state: begun.state,
    nonce: begun.nonce,
    code_challenge: await oauth.calculatePKCECodeChallenge(begun.verifier),
    code_challenge_method: "S256",
    resource: config.resource,
    // OpenID Connect Core, section 11: without it offline_access is passed over.
    prompt: scopes.includes("offline_access") ? "consent" : undefined,
  };
  for (const [name, value] of Object.entries(values)) if (value) to.searchParams.set(name, value);
  keep(slot, begun);
  if (!recall(slot)) {
    throw new SignInError("This browser keeps nothing for the tab (session storage is switched off), which a sign-in at an issuer needs. Switch it on, or use an API key.");
  }
  location.assign(to.href);
}

/** An answer of the issuer in the page's address. */
export interface Callback {
  readonly params: URLSearchParams;
  readonly begun: Begun | undefined;
}

/**
 * Takes an issuer's answer out of the page's address, which is clean and where the
 * sign-in began from then on. An answer can be taken once.
 */
export function takeCallback(): Callback | undefined {
  const params = new URLSearchParams(location.search);
  if (!params.has("state") || !(params.has("code") || params.has("error"))) return undefined;
  const begun = recall<Begun>(slot);
  keep(slot, undefined);
  history.replaceState(null, "", `${location.pathname}${begun?.hash || location.hash}`);
  dispatchEvent(new HashChangeEvent("hashchange"));
  return { params, begun };
}

/** Makes tokens of an issuer's answer. */
export async function finish(config: Config, { params, begun }: Callback): Promise<{ tokens: Tokens; team: string | undefined }> {
  if (!begun) throw new SignInError("The issuer’s answer is to a sign-in that did not begin in this tab, or that is over. Sign in again.");
  const { oauth, server, client, options } = await discover(config);
  if (begun.issuer !== server.issuer) throw new SignInError("c1proxy has changed its issuer since the sign-in began. Sign in again.");
  return inWords(oauth, async () => {
    const valid = oauth.validateAuthResponse(server, client, params, begun.state);
    const answer = await oauth.authorizationCodeGrantRequest(server, client, oauth.None(), valid, redirectURI(), begun.verifier, {
      ...options,
      ...resourceOf(config),
    });
    const tokens = await oauth.processAuthorizationCodeResponse(server, client, answer, {
      expectedNonce: begun.nonce ?? oauth.expectNoNonce,
      requireIdToken: begun.nonce !== undefined,
    });
    return { tokens: tokensOf(tokens), team: begun.team };
  });
}

/** Gets new tokens by a refresh token. */
export async function renew(config: Config, refresh: string): Promise<Tokens> {
  const { oauth, server, client, options } = await discover(config);
  return inWords(oauth, async () => {
    const answer = await oauth.refreshTokenGrantRequest(server, client, oauth.None(), refresh, { ...options, ...resourceOf(config) });
    const tokens = tokensOf(await oauth.processRefreshTokenResponse(server, client, answer));
    return { ...tokens, refresh: tokens.refresh ?? refresh };
  });
}

/** Tells the issuer that a refresh token is not needed any more, if it wants to know. */
export async function revoke(config: Config, refresh: string): Promise<void> {
  const { oauth, server, client, options } = await discover(config);
  if (!server.revocation_endpoint) return;
  await oauth.revocationRequest(server, client, oauth.None(), refresh, options);
}

async function discover(config: Config) {
  const oauth = await import("oauth4webapi");
  if (!config.issuer || !config.client_id) throw new SignInError("c1proxy names no issuer to sign in at. Use an API key.");
  const issuer = new URL(config.issuer);
  // Plain http is for an issuer on the same machine, in development and tests.
  const insecure = issuer.protocol === "http:" && ["127.0.0.1", "localhost", "[::1]"].includes(issuer.hostname);
  const options = { [oauth.allowInsecureRequests]: insecure, signal: () => AbortSignal.timeout(patience) };
  const server = await inWords(oauth, async () =>
    oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { ...options, algorithm: "oidc" })));
  const client: OAuth.Client = { client_id: config.client_id };
  return { oauth, server, client, options };
}

function tokensOf(answer: OAuth.TokenEndpointResponse): Tokens {
  return {
    access: answer.access_token,
    refresh: answer.refresh_token,
    expires: answer.expires_in === undefined ? undefined : Date.now() + answer.expires_in * 1000,
  };
}

function scopesOf(config: Config): readonly string[] {
  return config.scopes?.length ? config.scopes : ["openid"];
}

function resourceOf(config: Config) {
  return config.resource ? { additionalParameters: { resource: config.resource } } : {};
}

function redirectURI(): string {
  return location.origin + import.meta.env.BASE_URL;
}

/** Says of what goes wrong what it means to who signs in. */
async function inWords<T>(oauth: typeof OAuth, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    if (thrown instanceof oauth.AuthorizationResponseError || thrown instanceof oauth.ResponseBodyError) {
      throw new SignInError(issuerError(thrown.error, thrown.error_description), { cause: thrown });
    }
    if (thrown instanceof TypeError) {
      throw new SignInError("The issuer cannot be reached from this page: it does not answer, or does not let pages of this origin call it (CORS).", { cause: thrown });
    }
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    throw new SignInError(`The issuer’s answer is not good: ${message}.`, { cause: thrown });
  }
}

const errors: Readonly<Record<string, string>> = {
  access_denied: "The issuer did not let you in, or you went back.",
  consent_required: "The issuer wants your consent.",
  interaction_required: "The issuer wants to ask you something first.",
  invalid_client: "The issuer does not know this console: its client_id is not registered, or not as a public client.",
  invalid_grant: "The sign-in took too long, or was used already.",
  invalid_request: "The issuer does not take the request as it is.",
  invalid_scope: "The issuer does not give the scopes that are configured.",
  invalid_target: "The issuer does not give tokens for the resource that is configured.",
  login_required: "The issuer wants you to sign in.",
  server_error: "The issuer failed. Try again later.",
  temporarily_unavailable: "The issuer is busy. Try again later.",
  unauthorized_client: "The issuer does not let this console sign in this way.",
  unsupported_response_type: "The issuer does not sign in by an authorization code.",
};

function issuerError(error: string, description: string | undefined): string {
  const words = errors[error] ?? "The issuer refused the sign-in.";
  return `${words} It says: ${error}${description ? `, ${description}` : ""}.`;
}

/** Whether a failed renewal is the issuer's last word, and not an accident on the way. */
export function isFinal(thrown: unknown): boolean {
  const cause = thrown instanceof SignInError ? thrown.cause : thrown;
  return !(cause instanceof TypeError) && cause instanceof Error && cause.name === "ResponseBodyError";
}
