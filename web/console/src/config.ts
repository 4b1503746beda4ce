/** What the page is told before anybody has signed in. */
export interface Config {
  /** The OIDC issuer to sign in at; without one there is but the API key. */
  readonly issuer?: string;
  readonly client_id?: string;
  readonly scopes?: readonly string[];
  /** The resource that an access token is asked for (RFC 8707). */
  readonly resource?: string;
  /** c1proxy's version. */
  readonly version?: string;
}

let loaded: Promise<Config> | undefined;

/** The gateway's /console/config.json, fetched once; empty where it has none. */
export function loadConfig(): Promise<Config> {
  loaded ??= fetchConfig().catch((thrown) => {
    loaded = undefined;
    throw thrown;
  });
  return loaded;
}

async function fetchConfig(): Promise<Config> {
  const response = await fetch(`${import.meta.env.BASE_URL}config.json`, { cache: "no-store", credentials: "omit" });
  if (response.status === 404) return {};
  if (!response.ok) throw new Error(`config.json: HTTP ${response.status}`);
  return (await response.json()) as Config;
}
