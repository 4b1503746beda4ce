// Audit: the log live and searched, a record in full, and its proof, verified in the
// browser by a key that the user pinned.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { binary, demo, folder, gateway, until } from "./kit.js";
import { accessible, fits, inBothThemes, shot, signedIn } from "./view.js";

const table = (page) => page.getByRole("table", { name: "Records of the audit, the newest first" });
const panel = (page) => page.getByRole("dialog", { name: /^Record \d+$/ });

// call makes a call as another client does, and returns its request id.
async function call(origin, key, method, request = {}, headers = {}) {
  const response = await fetch(`${origin}/${method}`, {
    method: "POST", body: JSON.stringify(request), headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
  });
  await response.arrayBuffer();
  return response.headers.get("x-request-id");
}

const live = (page) => page.locator('.live[data-live="live"]').waitFor();
const list = "c1.api.app.v1.Apps/List";

// pin pins a key in the open panel.
async function pin(page, key, remember = false) {
  await panel(page).getByLabel("Verifier key").fill(key);
  if (remember) await panel(page).getByRole("checkbox", { name: /^Remember it on this device/ }).check();
  await panel(page).getByRole("button", { name: "Pin this key" }).click();
}

test("calls made elsewhere appear live, and stay away while paused", async (t) => {
  const { origin, api_key, reader_api_key } = await demo(t);
  await call(origin, api_key, list, {}, { "C1proxy-Reason": encodeURIComponent("before: Ünïcode") });
  const page = await signedIn(t, origin, api_key, "#/audit");
  await live(page);
  await table(page).getByText("before: Ünïcode").first().waitFor();
  await page.getByText(/^The log of this replica, .*records of your own team, payments\./).waitFor();

  await call(origin, api_key, list, {}, { "C1proxy-Reason": "while live" });
  await table(page).getByText("while live").first().waitFor();
  await call(origin, reader_api_key, list, {}, { "C1proxy-Reason": "of another team" });

  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByText("Paused", { exact: true }).waitFor();
  const other = await signedIn(t, origin, api_key, "#/audit");
  await live(other);
  await call(origin, api_key, list, {}, { "C1proxy-Reason": "while paused" });
  await table(other).getByText("while paused").first().waitFor();
  await call(origin, api_key, list, {}, { "C1proxy-Reason": "and after it" });
  await table(other).getByText("and after it").first().waitFor();
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  assert.equal(await table(page).getByText("while paused").count(), 0, "what others see by now is not shown here");
  await page.getByRole("button", { name: "Resume" }).click();
  await table(page).getByText("while paused").first().waitFor();
  assert.equal(await table(page).getByText("of another team").count(), 0);
  const seqs = await page.evaluate(() => [...document.querySelectorAll(".audit-rows tbody tr")].map((row) => row.querySelector("time").dateTime));
  assert.deepEqual(seqs, seqs.toSorted().reverse(), "the newest first");
  await inBothThemes(page, async (theme) => {
    await accessible(page, `the audit in ${theme}`);
    await shot(page, `audit-${theme}`);
  });
  await fits(page);
  await page.setViewportSize({ width: 380, height: 740 });
  await accessible(page, "the audit, narrow");
  await shot(page, "audit-narrow");
});

test("calls to C1 are shown, and those of the page itself when one wants them", async (t) => {
  const { origin, reader_api_key } = await demo(t);
  const page = await signedIn(t, origin, reader_api_key, "#/audit");
  await page.getByText("No calls to C1 yet").waitFor();
  await live(page);
  await call(origin, reader_api_key, list, {}, { "C1proxy-Reason": "of C1" });
  await call(origin, reader_api_key, "c1.api.app.v1.ConnectorService/ConfirmSyncValid", { appId: "a", connectorId: "b", syncLifecycleId: "c" });
  await table(page).getByText("METHOD_DENIED").waitFor(); // live, as the others
  await table(page).getByText("of C1").first().waitFor();
  const own = table(page).getByRole("button", { name: /^(AuditService|GatewayService)\// });
  assert.equal(await own.count(), 0, "the page does not tell of itself");
  await page.reload();
  await table(page).getByText("METHOD_DENIED").waitFor(); // of the page of records
  assert.equal(await own.count(), 0);

  const toggle = page.getByRole("checkbox", { name: /^Hide calls to c1proxy/ });
  assert.ok(await toggle.isChecked());
  await toggle.press("Space");
  await own.first().waitFor();
  assert.match(page.url(), /#\/audit\?calls=all$/);
  await page.reload();
  await own.first().waitFor();
  assert.ok(!(await toggle.isChecked()), "a link shows what its sender saw");

  // Who names a method or a call gets it.
  const id = await call(origin, reader_api_key, "c1proxy.v1.GatewayService/WhoAmI");
  for (const query of ["method=GatewayService/*", `request_id=${id}`]) {
    await page.evaluate((to) => { location.hash = `#/audit?${to}`; }, query);
    await table(page).getByRole("button", { name: "GatewayService/WhoAmI" }).first().waitFor();
    assert.equal(await toggle.count(), 0);
  }
});

test("the tail is resumed when the gateway ends it, without a gap", async (t) => {
  const it = await gateway(t, { more: { console: {} } });
  const page = await signedIn(t, it.origin, it.keys.desk, "#/audit?method=Apps/List");
  await live(page);
  await call(it.origin, it.keys.desk, list, {}, { "C1proxy-Reason": "one before" });
  await table(page).getByText("one before").first().waitFor();
  const tails = () => page.watch.requests.filter((one) => one.url.endsWith("/c1proxy.v1.AuditService/Tail")).length;
  const before = tails();
  await it.configure((config) => { config.teams[0].limits.team.rate = 4999; }); // replaced: streams end
  await call(it.origin, it.keys.desk, list, {}, { "C1proxy-Reason": "in between" });
  await until(() => tails() > before, "another tail");
  await table(page).getByText("in between").first().waitFor();
  await live(page);
  assert.equal(await table(page).getByText("one before").count(), 2, "an intent and its outcome, none twice");
});

// expires is an answer of Tail whose token has expired, with or without a message before.
function expires(...messages) {
  const frame = (flags, value) => {
    const bytes = Buffer.from(JSON.stringify(value));
    const head = Buffer.alloc(5, flags);
    head.writeUInt32BE(bytes.length, 1);
    return Buffer.concat([head, bytes]);
  };
  const body = Buffer.concat([...messages.map((one) => frame(0, one)), frame(2, { error: { code: "unauthenticated", message: "the token has expired" } })]);
  return { status: 200, contentType: "application/connect+json", body };
}

test("the tail goes on when its token expires and the sign-in holds; refused again, it stays refused", async (t) => {
  const { origin, api_key } = await demo(t);
  const page = await signedIn(t, origin, api_key, "#/syncs");
  let refused = 1;
  let tails = 0;
  await page.route("**/c1proxy.v1.AuditService/Tail", (route) => (tails++ < refused ? route.fulfill(expires()) : route.continue()));
  await page.goto(`${origin}/console/#/audit`);
  await live(page);
  assert.equal(tails, 2);
  await call(origin, api_key, list, {}, { "C1proxy-Reason": "with the new token" });
  await table(page).getByText("with the new token").first().waitFor();

  refused = Infinity;
  tails = 0;
  await page.goto(`${origin}/console/#/audit?calls=all`);
  await page.getByText("New records cannot be followed").waitFor();
  await page.getByRole("button", { name: "Resume" }).waitFor();
  assert.equal(tails, 2, "the first, and one with what the sign-in has by then");
  assert.ok(await page.getByRole("button", { name: "Sign out" }).isVisible());
});

test("one searches by what a link says, and shares the link", async (t) => {
  const { origin, api_key, app_id } = await demo(t);
  const id = await call(origin, api_key, list);
  await call(origin, api_key, "c1.api.app.v1.Apps/Get", { id: app_id });
  await call(origin, api_key, "c1.api.app.v1.Apps/Get", { id: "no-such-app" });
  const page = await signedIn(t, origin, api_key, `#/audit?request_id=${id}&kind=outcome`);
  await table(page).waitFor();
  await until(async () => (await table(page).getByRole("row").count()) === 2, "the one outcome");
  assert.equal(await page.getByLabel("Request id").inputValue(), id);

  await page.getByRole("button", { name: "Clear" }).click();
  await page.getByRole("textbox", { name: "Method" }).fill("Apps/Get");
  await page.keyboard.press("Enter");
  await page.getByLabel("Outcome").selectOption("Failed");
  await until(async () => /method=Apps%2FGet/.test(page.url()) && /outcome=failed/.test(page.url()), "the address says it");
  await until(async () => (await table(page).getByRole("row").count()) === 2, "the one that failed");
  await table(page).getByText("Failed", { exact: true }).waitFor();

  await page.getByRole("textbox", { name: "Value" }).or(page.getByRole("button", { name: "More" })).first().waitFor();
  if (await page.getByRole("button", { name: "More" }).count()) await page.getByRole("button", { name: "More" }).click();
  await page.getByRole("textbox", { name: "Value" }).fill(`id=${app_id}`);
  await page.keyboard.press("Enter");
  await page.getByText("No record matches").waitFor();
  await accessible(page, "nothing found");
  await page.getByRole("button", { name: "Show all records" }).click();
  await table(page).waitFor();

  await page.getByLabel("Time", { exact: true }).selectOption("From and until…");
  await page.getByLabel("From").fill("2020-01-01T00:00:00");
  await page.getByLabel("Until").fill("2020-01-02T00:00:00");
  await page.getByText("No record matches").waitFor();
  assert.equal(await page.locator(".live").count(), 0, "the past is not followed");
  await page.getByLabel("Until").fill("2019-01-01T00:00:00");
  await page.getByText("The search ends before it begins", { exact: false }).waitFor();
  await accessible(page, "a search that cannot be made");
});

test("older records come in pages", async (t) => {
  const { origin, api_key } = await demo(t);
  for (let i = 0; i < 70; i++) await call(origin, api_key, list);
  const page = await signedIn(t, origin, api_key, "#/audit?method=Apps/List");
  await page.getByText("100 shown").waitFor();
  await page.getByRole("button", { name: "Load older records" }).click();
  await page.getByText("140 shown, which are all").waitFor();
  await page.getByText("Paused", { exact: true }).waitFor();
});

test("an auditor sees all teams, and the log's own events; another's team is refused", async (t) => {
  const it = await gateway(t, { callers: { desk: {}, eye: { team: "security", grants: ["auditor"] } }, more: { console: {} } });
  await call(it.origin, it.keys.desk, list, {}, { "C1proxy-Reason": "of payments" });
  await call(it.origin, "c1p_wrong", list);
  const page = await signedIn(t, it.origin, it.keys.eye, "#/audit");
  await page.getByText(/records of all teams/).waitFor();
  await table(page).getByText("of payments").first().waitFor();
  await table(page).getByText("Refused").first().waitFor();
  await table(page).getByText("segment_opened").first().waitFor();

  const other = await signedIn(t, it.origin, it.keys.desk, "#/audit?team=security");
  await other.getByText("AUDIT_DENIED").first().waitFor();
  await accessible(other, "a refusal");
});

test("a record opens in full, with its partner, and is verified by the key that the demo prints", async (t) => {
  const { origin, api_key, verifier_key } = await demo(t);
  await call(origin, api_key, list, {}, { "C1proxy-Reason": "to be proven" });
  const page = await signedIn(t, origin, api_key, "#/audit?method=Apps/List&kind=outcome");
  await table(page).getByRole("button", { name: "Apps/List" }).first().click();
  await panel(page).waitFor();
  await panel(page).getByRole("link", { name: /^Open its intent/ }).waitFor();
  await panel(page).getByText("To verify, pin the log’s verifier key", { exact: false }).waitFor();
  await accessible(page, "a record without a pinned key");
  await shot(page, "audit-record");

  await pin(page, verifier_key.slice(0, -3));
  await panel(page).getByText(/not base64|not copied whole/).waitFor();
  await pin(page, `PRIVATE+KEY+${verifier_key}`);
  await panel(page).getByText(/the log’s private key/).waitFor();
  await accessible(page, "a key that is none");
  await pin(page, verifier_key);
  await panel(page).getByText("Verified", { exact: true }).waitFor();
  await panel(page).getByText("for this tab").waitFor();
  await inBothThemes(page, async (theme) => {
    await accessible(page, `a verified record in ${theme}`);
    await panel(page).getByText("Verified", { exact: true }).scrollIntoViewIfNeeded();
    await shot(page, `audit-verified-${theme}`);
  });
  await page.setViewportSize({ width: 380, height: 740 });
  await accessible(page, "a record, narrow");
  await fits(page);
  await page.setViewportSize({ width: 1280, height: 800 });
  assert.deepEqual(await page.evaluate(() => Object.keys(localStorage)), [], "nothing outlives the tab");

  // The proof's text is what the command line takes, and it agrees.
  await panel(page).getByText("The proof’s text").click();
  const text = await panel(page).locator("details[open] pre").last().evaluate((one) => one.textContent);
  const file = join(folder(t), "x.tlog-proof");
  writeFileSync(file, text);
  execFileSync(binary(), ["audit", "check-proof", file, "--key", verifier_key]);
  writeFileSync(file, text.replace(/^index \d+$/m, "index 0"));
  assert.throws(() => execFileSync(binary(), ["audit", "check-proof", file, "--key", verifier_key], { stdio: "pipe" }));

  // The partner, by its link, is verified with the same key.
  await panel(page).getByRole("link", { name: /^Open its intent/ }).click();
  await panel(page).getByRole("link", { name: /^Open its outcome/ }).waitFor();
  await panel(page).getByText("to be proven").first().waitFor();
  await panel(page).getByRole("button", { name: "Verify proof" }).click();
  await panel(page).getByText("Verified", { exact: true }).waitFor();
  await page.keyboard.press("Escape");
  await panel(page).waitFor({ state: "detached" });
  assert.ok(!/seq=/.test(page.url()));
});

test("a key is remembered on the device when one asks for it, and forgotten", async (t) => {
  const { origin, api_key, verifier_key } = await demo(t);
  const id = await call(origin, api_key, list);
  const page = await signedIn(t, origin, api_key, `#/audit?request_id=${id}&seq=3&proof=1`);
  await pin(page, verifier_key, true);
  await panel(page).getByText("Verified", { exact: true }).waitFor();
  assert.deepEqual(await page.evaluate(() => Object.values(localStorage)), [JSON.stringify([verifier_key])], "the public key and nothing else");
  await page.reload();
  await panel(page).getByText("Verified", { exact: true }).waitFor();
  await panel(page).getByText("remembered on this device").waitFor();
  await panel(page).getByRole("button", { name: "Forget" }).click();
  await panel(page).getByLabel("Verifier key").waitFor();
  assert.deepEqual(await page.evaluate(() => Object.keys(localStorage)), []);
});

test("another key, and an answer that was changed on its way, do not verify", async (t) => {
  const { origin, api_key, verifier_key } = await demo(t);
  const { verifier_key: other } = await demo(t);
  const id = await call(origin, api_key, list, {}, { "C1proxy-Reason": "the truth" });
  const page = await signedIn(t, origin, api_key, `#/audit?request_id=${id}&kind=intent`);
  await table(page).getByRole("button", { name: "Apps/List" }).first().click();
  await pin(page, other);
  await panel(page).getByText("Not verified", { exact: true }).waitFor();
  await panel(page).getByText(/^The proof is of the log c1proxy-\w+; the pinned key is of c1proxy-\w+\./).waitFor();
  await accessible(page, "a proof of another log");
  await pin(page, verifier_key);
  await panel(page).getByText("Verified", { exact: true }).waitFor();

  // Somebody between changes what the page gets.
  let change = (answer) => answer;
  const encode = (text) => Buffer.from(text).toString("base64");
  await page.route("**/c1proxy.v1.AuditService/Prove**", async (route) => {
    const url = new URL(route.request().url());
    const got = await fetch(`${url.origin}${url.pathname}`, {
      method: "POST", headers: { authorization: `Bearer ${api_key}`, "content-type": "application/json" }, body: JSON.stringify({ seq: new URL(page.url()).hash.match(/seq=(\d+)/)[1] }),
    });
    await route.fulfill({ status: 200, contentType: "application/json", body: JSON.stringify(change(await got.json())) });
  });
  const verify = () => panel(page).getByRole("button", { name: /^Verify (again|proof)$/ }).click();
  const forged = {
    "a changed word": [(p) => ({ ...p, proof: p.proof.replace(/^extra (.*)$/m, (_, b) => `extra ${encode(Buffer.from(b, "base64").toString().replace("the truth", "the lie!!"))}`) }), /is not record \d+ of the log/],
    "a changed head": [(p) => ({ ...p, proof: p.proof.replace(/(\n\n[^\n]+\n)(\d+)\n/, (_, a, n) => `${a}${Number(n) + 1}\n`) }), /the head was changed/],
    "another encoding": [(p) => ({ ...p, proof: p.proof.replace(/\n\n/, "\n \n") }), /does not begin|is not base64|no signature|not of/],
    "nothing": [(p) => ({ ...p, proof: "" }), /does not begin with/],
  };
  for (const [what, [by, why]] of Object.entries(forged)) {
    change = by;
    await verify();
    await panel(page).getByText("Not verified", { exact: true }).waitFor();
    await panel(page).getByText(why).first().waitFor();
    assert.equal(await panel(page).getByText("Verified", { exact: true }).count(), 0, what);
  }
  change = (p) => p;
  await verify();
  await panel(page).getByText("Verified", { exact: true }).waitFor();

  // The proof of another record proves that one, and not the one that is shown.
  const swapped = await (await fetch(`${origin}/c1proxy.v1.AuditService/Prove`, {
    method: "POST", headers: { authorization: `Bearer ${api_key}`, "content-type": "application/json" }, body: JSON.stringify({ seq: Number(page.url().match(/seq=(\d+)/)[1]) + 1 }),
  })).json();
  change = () => swapped;
  await verify();
  await panel(page).getByText(/A record is proven, but it is not the one that was shown/).waitFor();
  await panel(page).getByText("What was proven").waitFor();
  await accessible(page, "a proof of another record");
  await shot(page, "audit-not-verified");
});

test("a record of another replica is not taken for the one that a link names", async (t) => {
  const here = await demo(t);
  const there = await demo(t);
  const id = await call(here.origin, here.api_key, list, {}, { "C1proxy-Reason": "the one of the link" });
  await call(there.origin, there.api_key, list, {}, { "C1proxy-Reason": "a call of others" });
  // What balances between them: each method goes to one of the two.
  let away = [];
  const ask = async (replica, method, request) => {
    const got = await fetch(`${replica.origin}/c1proxy.v1.AuditService/${method}`, {
      method: "POST", headers: { authorization: `Bearer ${replica.api_key}`, "content-type": "application/json" }, body: JSON.stringify(request),
    });
    return { status: got.status, contentType: "application/json", body: await got.text() };
  };
  const page = await signedIn(t, here.origin, here.api_key, "#/syncs", {
    init: `localStorage.setItem("c1proxy.audit.pins", ${JSON.stringify(JSON.stringify([here.verifier_key, there.verifier_key]))})`,
  });
  await page.route(/c1proxy\.v1\.AuditService\/(Query|Prove)/, async (route) => {
    const url = new URL(route.request().url());
    const method = url.pathname.split("/").at(-1);
    if (!away.includes(method)) return route.continue();
    return route.fulfill(await ask(there, method, JSON.parse(url.searchParams.get("message"))));
  });
  const { records } = JSON.parse((await ask(here, "Query", { filter: { requestId: id, kind: "outcome" } })).body);
  const seq = records[0].seq;
  const verdicts = () => panel(page).getByText(/^(Not v|V)erified$/).count();

  const links = {
    "the proof is another's": [["Prove"], `request_id=${id}&seq=${seq}&proof=1`, /^The answer is of the log c1proxy-\w+, and this page shows c1proxy-\w+\./],
    "the list is another's too": [["Query", "Prove"], `request_id=${id}&until=${new Date().toISOString()}&seq=${seq}&proof=1`, /^Record \d+ of c1proxy-\w+ is not of the call /],
    "no call is named": [["Prove"], `method=Apps/List&seq=${seq}&proof=1`, /^The answer is of the log /],
  };
  for (const [what, [methods, query, why]] of Object.entries(links)) {
    away = methods;
    await page.goto(`${here.origin}/console/#/audit?${query}`);
    await panel(page).getByText("Another replica answered").waitFor();
    await panel(page).getByText(why).waitFor();
    assert.equal(await verdicts(), 0, what);
    assert.equal(await panel(page).getByText("a call of others").count(), 0, what);
    if (what === "the proof is another's") await accessible(page, "another replica's record");
    away = away.filter((one) => one !== "Prove");
    await panel(page).getByRole("button", { name: "Ask again" }).click();
    if (methods.length === 1) await panel(page).getByText("Verified", { exact: true }).waitFor();
    await page.keyboard.press("Escape");
    await panel(page).waitFor({ state: "detached" });
  }
});

test("a query that was changed on its way is found by the proof", async (t) => {
  const { origin, api_key, verifier_key } = await demo(t);
  const id = await call(origin, api_key, list, {}, { "C1proxy-Reason": "the truth" });
  const page = await signedIn(t, origin, api_key, "#/syncs");
  await page.route("**/c1proxy.v1.AuditService/Query**", async (route) => {
    const got = await (await fetch(`${origin}/c1proxy.v1.AuditService/Query`, {
      method: "POST", headers: { authorization: `Bearer ${api_key}`, "content-type": "application/json" }, body: JSON.stringify({ filter: { requestId: id, kind: "intent" } }),
    })).text();
    await route.fulfill({ status: 200, contentType: "application/json", body: got.replaceAll("the truth", "something else") });
  });
  await page.goto(`${origin}/console/#/audit?request_id=${id}&kind=intent`);
  await table(page).getByText("something else").waitFor();
  await table(page).getByRole("button", { name: "Apps/List" }).first().click();
  await pin(page, verifier_key);
  await panel(page).getByText(/they differ in reason/).waitFor();
  assert.match(await panel(page).locator("pre").first().innerText(), /the truth/);
});

test("without a secure context the page says that it cannot verify", async (t) => {
  const { origin, api_key } = await demo(t);
  await call(origin, api_key, list);
  const insecure = origin.replace("127.0.0.1", "console.test");
  const page = await signedIn(t, insecure, api_key, "#/audit?method=Apps/List");
  page.watch.expect(/Cross-Origin-Opener-Policy header has been ignored/);
  await table(page).getByRole("button", { name: "Apps/List" }).first().click();
  await panel(page).getByText("This page cannot verify").waitFor();
  await panel(page).getByText(/not loaded over HTTPS/).waitFor();
  assert.equal(await panel(page).getByRole("button", { name: "Verify proof" }).count(), 0);
  await accessible(page, "a page that cannot verify");
});

test("a gateway that fails is said, and the next try shows the records", async (t) => {
  const { origin, api_key } = await demo(t);
  await call(origin, api_key, list);
  const page = await signedIn(t, origin, api_key, "#/syncs");
  let broken = true;
  await page.route("**/c1proxy.v1.AuditService/*", (route) => (broken ? route.fulfill({ status: 503, contentType: "application/json", body: `{"code":"unavailable","message":"the audit cannot be read"}` }) : route.continue()));
  await page.goto(`${origin}/console/#/audit`);
  await page.getByText("The records could not be had").waitFor();
  await page.getByText(/^Interrupted: again in \d+ s/).first().waitFor();
  await accessible(page, "a failure");
  await shot(page, "audit-failed");
  broken = false;
  await page.getByRole("button", { name: "Try again" }).click();
  await table(page).waitFor();
  await live(page);
});
