// Signing in to the console: by a key, at an issuer, for a team; and out again.

import assert from "node:assert/strict";
import { test } from "node:test";
import { issuer, resource, signInAt } from "./issuer.js";
import { demo, open, until } from "./kit.js";
import { accessible, fits, gatewayWithConsole, inBothThemes, shot, signedIn } from "./view.js";

// stored is all that the page keeps, by where.
const stored = (page) => page.evaluate(async () => ({
  session: JSON.stringify({ ...sessionStorage }),
  local: JSON.stringify({ ...localStorage }),
  cookies: document.cookie,
  databases: (await indexedDB.databases()).length,
  caches: "caches" in globalThis ? (await caches.keys()).length : 0,
}));

test("a key signs in for as long as the tab lives, and is nowhere else", async (t) => {
  const { origin, api_key } = await demo(t);
  const page = await open(t, `${origin}/console/#/access`);
  const field = page.getByLabel("API key");
  await inBothThemes(page, async (theme) => {
    await accessible(page, `sign-in in ${theme}`);
    await shot(page, `signin-${theme}`);
  });
  await fits(page);
  assert.equal(await field.getAttribute("type"), "password");
  assert.equal(await field.getAttribute("autocomplete"), "off");
  await page.getByRole("button", { name: "Show" }).click();
  assert.equal(await field.getAttribute("type"), "text");

  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("Paste your key.").waitFor();
  await field.fill("two words");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("The key has a space").waitFor();
  await field.fill("c1p_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("You are not signed in").waitFor();
  await page.locator("button[aria-busy]").waitFor({ state: "detached" });
  await accessible(page, "a refused key");

  await field.fill(` ${api_key}\n`);
  await field.press("Enter");
  await page.getByRole("heading", { name: "Access", exact: true }).waitFor();
  const kept = await stored(page);
  assert.ok(kept.session.includes(api_key));
  assert.deepEqual({ ...kept, session: "" }, { session: "", local: "{}", cookies: "", databases: 0, caches: 0 });
  assert.equal(page.watch.requests.filter(({ url }) => url.includes(api_key)).length, 0, "the key is in no address");
  assert.ok(!page.url().includes(api_key));

  await page.reload();
  await page.getByRole("heading", { name: "Access", exact: true }).waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.ok(!(await stored(page)).session.includes(api_key));
  await page.reload();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
});

test("a key that is taken back signs out, and back in where one was", async (t) => {
  const { origin, keys, configure } = await gatewayWithConsole(t, { callers: { desk: {}, other: {} } });
  const page = await signedIn(t, origin, keys.desk, "#/access?method=c1.api.app.v1.Apps%2FList");
  await page.getByRole("heading", { name: "Access", exact: true }).waitFor();
  await configure((config) => { config.teams[0].callers.shift(); });
  await page.getByRole("button", { name: "Refresh the limits" }).click();
  await page.getByText("Your sign-in is no longer good").waitFor();
  await accessible(page, "a sign-in that has ended");
  await page.getByLabel("API key").fill(keys.other);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("heading", { name: "Access", exact: true }).waitFor();
  assert.equal(new URL(page.url()).hash, "#/access?method=c1.api.app.v1.Apps%2FList");
});

// withIssuer is a gateway whose console signs in at an issuer. alice is in payments,
// bob in payments and in security, and nobody knows carol.
async function withIssuer(t, { ttl, scopes = ["openid", "api"] } = {}) {
  const at = await gatewayWithConsole(t, { callers: { desk: {}, guard: { team: "security" } } });
  const idp = await issuer(t, at.origin, { ttl });
  await at.configure((config) => {
    config.issuers = [{ name: "login", url: idp.url, audiences: [resource], allow_insecure: true }];
    config.console = { issuer: "login", client_id: "console", scopes, resource };
    const [payments, security] = config.teams;
    payments.callers.push({ name: "alice", oidc: { issuer: "login", subject: "alice" } }, { name: "bob", oidc: { issuer: "login", subject: "bob" } });
    security.callers.push({ name: "bob", oidc: { issuer: "login", subject: "bob" } });
  });
  const page = await open(t, `${at.origin}/console/#/access?method=c1.api.app.v1.Apps%2FList`, { hosts: [idp.url] });
  page.setDefaultTimeout(10_000);
  return { at, idp, page };
}

const refreshToken = (page) => page.evaluate(() => JSON.parse(sessionStorage.getItem("c1proxy.session") ?? "{}").tokens?.refresh);

const toIssuer = (page) => page.getByRole("button", { name: /^Sign in with 127/ }).click();

test("one signs in at an issuer with PKCE, and comes back to where one was", async (t) => {
  const { idp, page } = await withIssuer(t);
  await page.getByRole("button", { name: /^Sign in with 127/ }).waitFor();
  await accessible(page, "sign-in with an issuer");
  await shot(page, "signin-issuer");
  await toIssuer(page);
  await signInAt(page, "alice");
  await page.getByRole("heading", { name: "Access", exact: true }).waitFor();
  assert.equal(new URL(page.url()).search, "", "the code is out of the address");
  assert.equal(new URL(page.url()).hash, "#/access?method=c1.api.app.v1.Apps%2FList");
  await page.getByRole("definition").filter({ hasText: "oidc:login:test-1" }).waitFor();

  const [asked] = idp.asked;
  assert.equal(asked.response_type, "code");
  assert.equal(asked.code_challenge_method, "S256");
  assert.match(asked.code_challenge, /^[\w-]{43}$/);
  assert.ok(asked.state.length >= 32 && asked.nonce.length >= 32);
  assert.equal(asked.resource, resource);
  assert.equal(asked.scope, "openid api");
  assert.equal(idp.granted.length, 1);
  const kept = await stored(page);
  assert.ok(!kept.session.includes(idp.granted[0].code), "the code is not kept");
  assert.deepEqual({ ...kept, session: "" }, { session: "", local: "{}", cookies: "", databases: 0, caches: 0 });
  assert.ok(!kept.session.includes("verifier"), "what began the sign-in is forgotten");

  await page.reload();
  await page.getByRole("heading", { name: "Access", exact: true }).waitFor();
  assert.equal(idp.granted.length, 1, "a reload asks for no tokens");
});

test("who is in several teams chooses one, and can change it", async (t) => {
  const { page } = await withIssuer(t);
  await toIssuer(page);
  await signInAt(page, "bob");
  await page.getByRole("heading", { name: "Choose a team" }).waitFor();
  await accessible(page, "the choice of a team");
  await shot(page, "signin-team");
  await page.getByRole("button", { name: "security" }).click();
  await page.getByRole("heading", { name: "Access", exact: true }).waitFor();
  const team = page.getByLabel("Team", { exact: true });
  assert.equal(await team.inputValue(), "security");
  await team.selectOption("payments");
  await page.getByRole("definition").filter({ hasText: /^payments$/ }).waitFor();
  await page.reload();
  await page.getByRole("definition").filter({ hasText: /^payments$/ }).waitFor();
});

test("a refusal of the issuer is said in words, and so is one of c1proxy", async (t) => {
  const { idp, page } = await withIssuer(t);
  idp.answer = ({ state }) => ({ error: "access_denied", error_description: "said the test", state, iss: idp.url });
  await toIssuer(page);
  await page.getByText("The issuer did not let you in, or you went back.").waitFor();
  assert.match(await page.getByRole("alert").innerText(), /access_denied, said the test/);
  assert.equal(new URL(page.url()).search, "");
  assert.equal(new URL(page.url()).hash, "#/access?method=c1.api.app.v1.Apps%2FList");
  await accessible(page, "a refused sign-in");
  await shot(page, "signin-refused");

  idp.answer = undefined;
  await toIssuer(page);
  await signInAt(page, "carol");
  await page.getByText("c1proxy does not know you").or(page.getByText(/CALLER_UNKNOWN/)).first().waitFor();
});

test("an answer that is not to this tab's sign-in is not taken", async (t) => {
  const { at, idp, page } = await withIssuer(t);
  for (const query of ["code=stolen&state=mine", `code=stolen&state=mine&iss=${encodeURIComponent(idp.url)}`, "error=access_denied&state=mine"]) {
    await page.goto(`${at.origin}/console/?${query}#/access`);
    await page.getByText("did not begin in this tab").waitFor();
    assert.equal(new URL(page.url()).search, "");
  }
  // One whose state is another, and one that names another issuer.
  for (const spoiled of [{ state: "another" }, { iss: "https://evil.example" }, { iss: "" }]) {
    idp.answer = ({ state }) => ({ code: "any", state, iss: idp.url, ...spoiled });
    await toIssuer(page);
    await page.getByText("The issuer’s answer is not good").waitFor();
    await page.goto(`${at.origin}/console/`);
  }
  const asked = page.watch.requests.filter(({ url }) => url.endsWith("/token"));
  assert.deepEqual(asked, [], "no token was asked for");
});

test("a token is renewed before it expires, and the refresh token is taken back in the end", async (t) => {
  const { idp, page } = await withIssuer(t, { ttl: 46, scopes: ["openid", "offline_access", "api"] });
  await toIssuer(page);
  assert.equal((await until(() => idp.asked[0], "the issuer is asked")).prompt, "consent");
  await signInAt(page, "alice");
  await page.getByRole("heading", { name: "Access", exact: true }).waitFor();
  const first = await refreshToken(page);
  await until(async () => (await refreshToken(page)) !== first, "the token is renewed, and kept");
  assert.ok(idp.granted.some((one) => one.grant_type === "refresh_token"));
  await page.reload();
  await page.getByRole("heading", { name: "Access", exact: true }).waitFor();
  const revoked = page.waitForResponse((response) => response.url().endsWith("/token/revocation"));
  await page.getByRole("button", { name: "Sign out" }).click();
  assert.equal((await revoked).status(), 200);
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
});

test("duplicates of a tab share the tokens that one of them has renewed", async (t) => {
  const { idp, page } = await withIssuer(t, { ttl: 46, scopes: ["openid", "offline_access", "api"] });
  await toIssuer(page);
  await signInAt(page, "alice");
  await page.getByRole("heading", { name: "Access", exact: true }).waitFor();
  const opened = page.waitForEvent("popup");
  await page.evaluate(() => { window.open(location.href); });
  const duplicate = await opened;
  await duplicate.getByRole("heading", { name: "Access", exact: true }).waitFor();
  // Each call renews a token that is good for 46 seconds within a second or two.
  for (let round = 0; round < 3; round++) {
    const before = await refreshToken(page);
    await until(async () => (await refreshToken(page)) !== before, "the token is renewed");
    await until(async () => (await refreshToken(page)) === (await refreshToken(duplicate)), "both have the newest one");
  }
  await Promise.all([page, duplicate].map((one) => one.getByRole("button", { name: "Refresh the limits" }).click()));
  await until(async () => (await refreshToken(page)) === (await refreshToken(duplicate)), "both have the newest one");
  for (const one of [page, duplicate]) await one.getByRole("button", { name: "Sign out" }).waitFor();
});

test("an answer of the issuer that is a stranger's leaves one signed in; a refused one of one's own does not", async (t) => {
  const { at, idp, page } = await withIssuer(t, { ttl: 120 });
  await toIssuer(page);
  await signInAt(page, "alice");
  await page.getByRole("button", { name: "Sign in again" }).waitFor();
  await page.goto(`${at.origin}/console/?error=access_denied&state=mine#/access`);
  await page.getByRole("heading", { name: "Access", exact: true }).waitFor();
  idp.answer = ({ state }) => ({ error: "access_denied", state, iss: idp.url });
  await page.getByRole("button", { name: "Sign in again" }).click();
  await page.getByText("The issuer did not let you in, or you went back.").waitFor();
  assert.equal(await refreshToken(page), undefined);
  await page.reload();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
});

test("a sign-in that nothing renews tells that it ends, and is begun anew from where one is", async (t) => {
  const { idp, page } = await withIssuer(t, { ttl: 120 });
  await toIssuer(page);
  await signInAt(page, "alice");
  await page.getByText("Your sign-in ends in 2 minutes").waitFor();
  await page.getByRole("heading", { name: "Access", exact: true }).waitFor();
  await accessible(page, "a sign-in that ends");
  idp.ttl = 3600; // for the next token
  await page.getByRole("button", { name: "Sign in again" }).click();
  await until(() => idp.granted.length === 2, "the issuer knows who it is");
  await page.getByRole("heading", { name: "Access", exact: true }).waitFor();
  assert.equal(new URL(page.url()).hash, "#/access?method=c1.api.app.v1.Apps%2FList");
  assert.equal(await page.getByText("Your sign-in ends in").count(), 0);
});
