// What others wrote is text and nothing else; no address breaks the console; and a tab
// that has signed out shows nothing of what it had.

import assert from "node:assert/strict";
import { test } from "node:test";
import { demo, open, until } from "./kit.js";
import { accessible, fits, gatewayWithConsole, shot, signedIn } from "./view.js";

const rlo = "\u202e";
const nasty = `<img src=x onerror="globalThis.hacked=1"><script>globalThis.hacked=1</script>${rlo}gpj.tset\u200b\u001b[31mred`;
const long = "x".repeat(200);

// harmless fails if something was interpreted, or turned around.
async function harmless(page, what) {
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined, `${what}: nothing ran`);
  assert.equal(await page.evaluate(() => document.querySelectorAll("#root img, #root script").length), 0, `${what}: no markup came in`);
  assert.ok(!(await page.locator("#root").innerText()).includes(rlo), `${what}: an override of direction is named and does nothing`);
}

test("names, errors and reasons are text, whatever is in them", async (t) => {
  const { origin, keys, c1, verifierKey } = await gatewayWithConsole(t);
  const connector = { id: `id-${long}`, appId: "app-1", displayName: `Okta ${nasty}`, status: { status: "SYNC_STATUS_ERROR", completedAt: "2026-01-02T03:04:05Z", lastError: `sync 2ZqErroredNoData0sandbox0001 is ERRORED_NO_DATA ${nasty} ${long}` } };
  c1.answer = ({ path }) => {
    if (/\/apps(\?|$)/.test(path)) return { status: 200, body: JSON.stringify({ list: [{ id: "app-1", displayName: nasty, description: nasty }, { id: "app-2", displayName: "\u200b\u2060" }] }) };
    if (/\/confirm_sync_valid/.test(path)) return { status: 400, body: JSON.stringify({ code: 9, message: nasty }) };
    if (/\/connectors/.test(path)) return { status: 200, body: JSON.stringify({ list: path.includes("app-1") ? [{ connector }] : [] }) };
    return undefined;
  };
  const page = await signedIn(t, origin, keys.desk);
  await page.getByText("Without connectors: app-2").waitFor(); // a name that shows nothing is none
  await harmless(page, "Syncs");
  await fits(page);
  await shot(page, "hostile-syncs");
  await page.getByRole("link", { name: /^Review and confirm/ }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("⟨U+202E⟩").first().waitFor();
  await harmless(page, "the dialog");
  await fits(page);
  const reason = `${nasty} ${"é".repeat(150)}`;
  await dialog.getByLabel("Reason").fill(reason);
  // What cannot be typed need not be.
  await dialog.getByLabel("Type the connector’s name").fill(connector.displayName.replace(/[\u202e\u200b\u001b]/g, ""));
  await dialog.getByRole("button", { name: "Confirm this sync" }).click();
  await dialog.getByText("Not confirmed: the sync does not wait for it").waitFor();
  await dialog.getByText("Reason stated").waitFor();
  await harmless(page, "the outcome");
  await accessible(page, "the outcome");
  await shot(page, "hostile-outcome");
  await dialog.getByRole("button", { name: "Close" }).last().click();
  await page.getByRole("link", { name: "Audit" }).click();
  await page.getByRole("button", { name: "ConnectorService/ConfirmSyncValid" }).first().click();
  await page.getByRole("dialog").getByText("As JSON").click();
  await harmless(page, "a record");
  const json = await page.getByRole("dialog").locator("details[open] pre").evaluate((one) => one.textContent);
  assert.ok(JSON.parse(json).reason.includes(rlo), "the JSON says the same");
  await page.getByRole("dialog").getByLabel("Verifier key").fill(verifierKey);
  await page.getByRole("dialog").getByRole("button", { name: "Pin this key" }).click();
  await page.getByRole("dialog").getByText("What was proven").click();
  await harmless(page, "what was proven");
  await fits(page);
  await shot(page, "hostile-record");
});

test("what an answer, a request or a refusal holds is shown as it is in the explorer and in Access", async (t) => {
  const { origin, keys, c1 } = await gatewayWithConsole(t);
  c1.answer = ({ method }) => (method === "GET" ? { status: 200, body: JSON.stringify({ list: [{ id: "app-1", displayName: nasty }] }) } : undefined);
  const page = await signedIn(t, origin, keys.desk, "#/explorer/c1.api.app.v1.Apps/List");
  await page.getByRole("heading", { name: "List read" }).waitFor();
  await page.getByRole("button", { name: "Call", exact: true }).click();
  const answer = page.getByRole("region", { name: "Answer", exact: true });
  await answer.getByText("\\u202e").waitFor();
  await harmless(page, "the tree");
  await answer.getByRole("button", { name: "Text" }).click();
  await harmless(page, "the text");
  const told = JSON.parse(await answer.locator("pre").evaluate((one) => one.textContent));
  assert.equal(told.list[0].displayName, nasty, "the JSON says the same");

  await page.goto(`${origin}/console/#/explorer/c1.api.app.v1.Apps/Create`);
  await page.getByRole("heading", { name: "Create write" }).waitFor();
  await page.getByLabel("displayName string").fill(nasty);
  const snippets = page.getByRole("region", { name: "The same call elsewhere" });
  for (const name of ["curl", "grpcurl", "TypeScript"]) {
    await snippets.getByRole("button", { name, exact: true }).click();
    await snippets.getByText("\\u202e").waitFor();
    await harmless(page, name);
  }
  await page.getByRole("button", { name: "Call…" }).click();
  await page.getByRole("dialog").getByText("\\u202e").waitFor();
  await harmless(page, "the question");
  await page.keyboard.press("Escape");
  await page.goto(`${origin}/console/#/explorer/${encodeURIComponent(nasty)}`);
  await page.getByText("There is no such method").waitFor();
  await harmless(page, "a method that is not there");

  await page.route("**/Explain*", (route) => route.fulfill({ status: 400, contentType: "application/json", body: JSON.stringify({ code: "invalid_argument", message: nasty }) }));
  await page.goto(`${origin}/console/#/access`);
  await page.getByRole("button", { name: /^Ask whether I may call/ }).first().click();
  await page.getByText("Not answered").waitFor();
  await harmless(page, "what was not answered");
});

const headings = { syncs: "Syncs", audit: "Audit", access: "Access", explorer: "API explorer" };

test("no address breaks the page, and none is more than a search", async (t) => {
  const { origin, api_key } = await demo(t);
  const page = await signedIn(t, origin, api_key, "#/audit?request_id=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E");
  await page.getByText("No record matches").waitFor();
  for (const hash of [
    "#/audit?last=constructor", "#/audit?last=__proto__", "#/audit?from=x&until=y", "#/audit?seq=-1", "#/audit?seq=99999999999999999999", "#/audit?seq=18446744073709551616",
    "#/audit?kind=%00&outcome=%F0%9F%92%A9&value=%3D%3D", `#/audit?method=${encodeURIComponent(`/${"*".repeat(200)}`)}`, `#/audit?caller=${long.repeat(20)}`,
    "#/explorer/__proto__/constructor", "#/explorer/constructor", "#/explorer/%E0%A4%A/%", "#/explorer/c1.api.app.v1.Apps/toString", "#/explorer?search=__proto__",
    "#/access?request_id=%3Cimg%20src%3Dx%3E", "#/access?method=__proto__", "#/syncs?app=__proto__&confirm=constructor", "#/__proto__", "#/constructor/x", "#javascript:alert(1)", "#//evil.test/x", "#/audit?team=%3Cb%3E",
  ]) {
    // By way of another view, so that its heading tells that the address has been read.
    const view = /^#\/(audit|access|explorer)/.exec(hash)?.[1] ?? "syncs";
    for (const [to, shown] of [view === "access" ? ["#/syncs", "syncs"] : ["#/access", "access"], [hash, view]]) {
      await page.evaluate((address) => { location.hash = address; }, to);
      await page.getByRole("heading", { level: 1, name: headings[shown], exact: true }).waitFor();
    }
    await until(async () => (await page.locator(".loading").count()) === 0, `${hash}: all is loaded`);
    assert.ok(await page.locator("main h1").isVisible(), `${hash}: the page stands`);
    await harmless(page, hash);
    assert.equal(new URL(page.url()).origin, origin);
  }
  await page.goto(`${origin}/console/#/audit?last=constructor`);
  await page.getByText("“constructor” is none of", { exact: false }).waitFor();
});

test("who has signed out in a tab is signed out when the browser shows the page of before again", async (t) => {
  const { origin, api_key } = await demo(t);
  const page = await signedIn(t, origin, api_key, "#/syncs");
  const other = await signedIn(t, origin, api_key, "#/access");
  await page.getByText("60 connectors", { exact: true }).waitFor();
  // The tab signs out on another page of the console, while this one rests in the cache.
  await page.evaluate(() => {
    sessionStorage.removeItem("c1proxy.session");
    dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
  });
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(await page.getByText("60 connectors", { exact: true }).count(), 0);
  await page.evaluate(() => { location.hash = "#/access"; });
  await page.goBack();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.ok(!(await page.content()).includes(api_key));
  // Each tab is signed in by itself.
  await other.reload();
  await other.getByRole("heading", { name: "Access", exact: true }).waitFor();
});

test("who signs in after another sees nothing of what the other has confirmed", async (t) => {
  const it = await gatewayWithConsole(t, { callers: { desk: {}, other: {} } });
  const page = await signedIn(t, it.origin, it.keys.desk);
  page.watch.expect(/ERR_FAILED/);
  await page.route("**/ConfirmSyncValid", (route) => route.abort());
  await page.getByRole("link", { name: /^Review and confirm/ }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Reason").fill("HR-1042");
  await dialog.getByLabel("Type the connector’s name").fill("Okta (production)");
  await dialog.getByRole("button", { name: "Confirm this sync" }).click();
  await dialog.getByText("It may have been confirmed").waitFor();
  await page.evaluate(() => { location.hash = "#/syncs"; });
  await page.getByRole("button", { name: "Show what became of it" }).waitFor();
  const signIn = async (key) => {
    await page.getByRole("button", { name: "Sign out" }).click();
    assert.equal(await page.evaluate(() => sessionStorage.getItem("c1proxy.confirmation")), null);
    await page.getByLabel("API key").fill(key);
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    await page.getByRole("link", { name: /^Review and confirm/ }).waitFor();
  };
  await signIn(it.keys.other);
  assert.equal(await page.getByText("It may have been confirmed").count(), 0);
  await signIn(it.keys.desk);
  await page.getByText("It may have been confirmed").waitFor();
});

test("who signs out is signed out of a duplicate of the tab, and of no other", async (t) => {
  const { origin, api_key } = await demo(t);
  const other = await signedIn(t, origin, api_key, "#/access");
  const page = await signedIn(t, origin, api_key, "#/access");
  await page.getByRole("heading", { name: "Access", exact: true }).waitFor();
  const opened = page.waitForEvent("popup");
  await page.evaluate(() => { window.open(location.href); }); // it begins with a copy of what the tab has kept
  const duplicate = await opened;
  await duplicate.getByRole("heading", { name: "Access", exact: true }).waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await duplicate.getByText("You signed out in another tab.").waitFor();
  assert.deepEqual(await duplicate.evaluate(() => ["session", "confirmation"].map((name) => sessionStorage.getItem(`c1proxy.${name}`))), [null, null]);
  await other.getByRole("button", { name: "Refresh the limits" }).click();
  await other.getByRole("button", { name: "Sign out" }).waitFor();
});

test("the focus goes where one is: into a view after signing in, back after a dialog, to the heading after signing out", async (t) => {
  const { origin, api_key } = await demo(t);
  const page = await open(t, `${origin}/console/`);
  await page.getByLabel("API key").fill(api_key);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  const focused = () => page.evaluate(() => `${document.activeElement?.tagName} ${document.activeElement?.id} ${document.activeElement?.textContent?.slice(0, 30)}`);
  await until(async () => /^H1 .*Syncs/.test(await focused()), "the view's heading has the focus");
  const link = page.getByRole("link", { name: /^Review and confirm/ });
  await link.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await until(async () => /^A .*Review and confirm/.test(await focused()), "the link that opened it has the focus again");
  await page.evaluate(() => document.activeElement.blur());
  await page.evaluate(() => { location.hash = document.querySelector('a[href*="confirm="]').getAttribute("href"); });
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await until(async () => /^MAIN main/.test(await focused()), "a dialog that an address opened leaves the focus in the content");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("API key").waitFor();
  await until(async () => /^(INPUT|H1) /.test(await focused()), "the sign-in has the focus");
});

test("an answer that never comes is open in the end, and what runs is asked for politely", async (t) => {
  const { origin, api_key } = await demo(t);
  const page = await signedIn(t, origin, api_key, "#/syncs");
  await page.getByText("60 connectors", { exact: true }).waitFor();
  // Every look at the sync that runs is refused.
  let looks = 0;
  await page.route("**/c1.api.app.v1.ConnectorService/Get**", (route) => {
    looks++;
    return route.fulfill({ status: 429, contentType: "application/json", body: '{"code":"resource_exhausted","message":"limit caller is used up"}' });
  });
  await page.clock.install();
  await page.reload();
  await page.getByText("60 connectors", { exact: true }).waitFor();
  for (let second = 0; second < 60; second += 5) {
    await page.clock.runFor(5000);
    await page.evaluate(() => fetch("config.json")); // what was asked has been answered
  }
  assert.ok(looks >= 2 && looks <= 5, `${looks} looks in a minute of refusals`);

  await page.route("**/ConfirmSyncValid", () => {}); // and nothing ever comes
  await page.getByRole("link", { name: /^Review and confirm/ }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Reason").fill("HR-1042");
  await dialog.getByLabel("Type the connector’s name").fill("Okta (production)");
  await dialog.getByRole("button", { name: "Confirm this sync" }).click();
  await dialog.getByRole("button", { name: "Confirming" }).waitFor();
  await page.clock.runFor(95_000);
  await page.clock.runFor(1000); // it waits a moment for what may still say that the page is left
  await dialog.getByText("It may have been confirmed").waitFor();
  assert.equal(page.watch.requests.filter(({ url }) => url.endsWith("/ConfirmSyncValid")).length, 1, "it is not sent again");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });

  // The tail of the audit is no such call: it has no end of its own.
  await page.getByRole("link", { name: "Audit" }).click();
  const tails = () => page.watch.requests.filter(({ url }) => url.endsWith("/Tail")).length;
  await page.locator('.live[data-live="live"]').waitFor();
  for (let seconds = 0; seconds < 100; seconds += 20) {
    await page.clock.runFor(20_000);
    await fetch(`${origin}/c1.api.app.v1.Apps/List`, { method: "POST", body: "{}", headers: { authorization: `Bearer ${api_key}`, "content-type": "application/json", "c1proxy-reason": `after-${seconds}` } });
    await page.getByText(`after-${seconds}`, { exact: true }).first().waitFor(); // the tail was heard of
  }
  assert.equal(tails(), 1);
});
