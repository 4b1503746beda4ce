// An OIDC issuer for tests: npm's oidc-provider, at which one signs in as whom one
// types. It gives access tokens that are JWTs for one resource.

import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import Provider from "oidc-provider";

export const resource = "https://c1proxy.test/api";

const scope = "api";

// issuer starts one for the console at an origin, whose client id is "console".
//
//   ttl       how long an access token is good for, in seconds
//   answer    set it to have sign-ins answered at once, by what it makes of their parameters
//   asked     the parameters of each authorization request
//   granted   those of each request for tokens that was granted
export async function issuer(t, origin, { ttl = 3600 } = {}) {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const jwk = { ...privateKey.export({ format: "jwk" }), kid: "test-1", alg: "ES256", use: "sig" };
  const self = { ttl, answer: undefined, asked: [], granted: [] };
  let provider;
  const server = createServer((request, response) => {
    const url = new URL(request.url, self.url);
    if (url.pathname === "/auth") {
      const params = Object.fromEntries(url.searchParams);
      self.asked.push(params);
      const answer = self.answer?.(params);
      if (answer) {
        const back = new URL(params.redirect_uri);
        for (const [name, value] of Object.entries(answer)) back.searchParams.set(name, value);
        response.writeHead(303, { location: back.href }).end();
        return;
      }
    }
    if (url.pathname.startsWith("/interaction/")) void interact(provider, request, response);
    else provider.callback()(request, response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => new Promise((resolve) => { server.close(resolve); server.closeAllConnections(); }));
  self.url = `http://127.0.0.1:${server.address().port}`;
  provider = quietly(() => new Provider(self.url, {
    clients: [{
      client_id: "console",
      redirect_uris: [`${origin}/console/`],
      response_types: ["code"],
      grant_types: ["authorization_code", "refresh_token"],
      token_endpoint_auth_method: "none",
      id_token_signed_response_alg: "ES256",
    }],
    jwks: { keys: [jwk] },
    scopes: ["openid", "offline_access"],
    enabledJWA: { idTokenSigningAlgValues: ["ES256", "RS256"] },
    clientBasedCORS: () => true,
    cookies: { keys: ["only for tests"] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    ttl: { Interaction: 600, Grant: 600, Session: 600 },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    rotateRefreshToken: true,
    features: {
      devInteractions: { enabled: false },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, indicator) => ({
          scope, audience: indicator, accessTokenTTL: self.ttl, accessTokenFormat: "jwt", jwt: { sign: { alg: "ES256" } },
        }),
      },
    },
  }));
  provider.on("grant.success", ({ oidc }) => void self.granted.push({ ...oidc.params }));
  return self;
}

// interact is the page on which one types who one is. Who has signed in lets the
// console have what it asks for.
async function interact(provider, request, response) {
  const { prompt, params, session } = await provider.interactionDetails(request, response);
  if (prompt.name === "consent") {
    const grant = new provider.Grant({ clientId: params.client_id, accountId: session.accountId });
    grant.addOIDCScope("openid offline_access");
    grant.addResourceScope(resource, scope);
    await provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
    return;
  }
  if (request.method === "GET") {
    response.writeHead(200, { "content-type": "text/html" }).end(
      '<!doctype html><html lang="en"><title>Issuer</title><link rel="icon" href="data:,"><form method="post"><label>Name <input name="login"></label><button>Sign in</button></form>');
    return;
  }
  let body = "";
  for await (const chunk of request) body += chunk;
  const accountId = new URLSearchParams(body).get("login");
  await provider.interactionFinished(request, response, { login: { accountId } });
}

// quietly keeps oidc-provider from warning of what is only for development.
function quietly(make) {
  const { warn, info } = console;
  console.warn = console.info = () => undefined;
  try {
    return make();
  } finally {
    Object.assign(console, { warn, info });
  }
}

// signInAt types a name at the issuer.
export async function signInAt(page, name) {
  await page.getByLabel("Name").fill(name);
  await page.getByRole("button", { name: "Sign in" }).click();
}
