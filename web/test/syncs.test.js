// Syncs: what stands out, and a confirmation from the press of a button to its record.

import assert from "node:assert/strict";
import { test } from "node:test";
import { demo, until } from "./kit.js";
import { accessible, fits, gatewayWithConsole, inBothThemes, shot, signedIn } from "./view.js";

const confirmCalls = (page) => page.watch.requests.filter((request) => request.url.endsWith("/ConfirmSyncValid"));

// fill fills in the form of a confirmation.
async function fill(page, { sync, reason = "Contractors left on 1 May, HR-1042", name = "Okta (production)" } = {}) {
  const dialog = page.getByRole("dialog");
  if (sync !== undefined) await dialog.getByLabel("Sync", { exact: true }).fill(sync);
  await dialog.getByLabel("Reason").fill(reason);
  await dialog.getByLabel("Type the connector’s name").fill(name);
  return dialog;
}

async function review(page) {
  await page.getByRole("link", { name: /^Review and confirm/ }).click();
  await page.getByRole("dialog", { name: /^Confirm the sync of/ }).waitFor();
}

test("a sync that lost its data stands out, and every app is listed to its end", async (t) => {
  const { origin, api_key } = await demo(t);
  const page = await signedIn(t, origin, api_key);
  const lost = page.getByRole("region", { name: "Syncs that lost their data" });
  await lost.getByText("Okta (production)", { exact: true }).waitFor();
  assert.match(await lost.innerText(), /ERRORED_NO_DATA/);
  await page.getByText("60 connectors", { exact: true }).waitFor();
  await page.getByText("Without connectors: Archive").waitFor();
  const headings = await page.getByRole("heading", { level: 2 }).allInnerTexts();
  assert.deepEqual(headings, ["A sync lost its data", "Payroll", "Engineering"], "what wants to be looked at is first");
  await page.getByRole("button", { name: "Show 45 more of Engineering" }).click();
  assert.equal(await page.getByRole("table", { name: "Connectors of Engineering" }).getByRole("row").count(), 61);

  await page.getByLabel("Status").selectOption({ label: "Paused (1)" });
  await page.getByRole("table", { name: "Connectors of Payroll" }).waitFor();
  assert.equal(await page.getByRole("row").count(), 2);
  await page.getByLabel("Status").selectOption("");
  await page.getByLabel("Search apps and connectors").fill("payroll work");
  assert.deepEqual(await page.getByRole("rowheader").count(), 1);
  await page.getByLabel("Search apps and connectors").fill("nothing is called so");
  await page.getByText("No connector matches").waitFor();
  await page.getByRole("button", { name: "Show all" }).click();

  await inBothThemes(page, async (theme) => {
    await accessible(page, `Syncs in ${theme}`);
    await shot(page, `syncs-${theme}`);
  });
  await fits(page);
});

test("a sync is confirmed by the keyboard alone, once, and its record is shown", async (t) => {
  const { origin, api_key, sync_lifecycle_id, connector_id } = await demo(t);
  const page = await signedIn(t, origin, api_key);
  await page.getByRole("link", { name: /^Review and confirm/ }).waitFor();
  const keys = page.keyboard;
  const focused = () => page.evaluate(() => (document.activeElement?.labels?.[0] ?? document.activeElement)?.textContent ?? "");
  const tabTo = async (what) => {
    for (let i = 0; i < 60; i++) {
      if (what.test(await focused())) return;
      await keys.press("Tab");
    }
    assert.fail(`Tab does not come to ${what}`);
  };
  await tabTo(/^Review and confirm/);
  await keys.press("Enter");
  await page.getByRole("dialog").waitFor();
  assert.match(await focused(), /^Confirm the sync of Okta/, "the dialog's heading is read first");
  await accessible(page, "the dialog");
  await shot(page, "confirm");
  await tabTo(/^Sync$/);
  assert.equal(await page.getByLabel("Sync", { exact: true }).inputValue(), sync_lifecycle_id, "the id is proposed out of C1's text");

  // What is missing is said, and nothing is sent.
  await keys.press("Enter");
  await page.getByText("Say why.").waitFor();
  await page.getByText("Type the connector’s name.", { exact: true }).waitFor();
  assert.match(await focused(), /^Reason$/, "the first field that is wrong has the focus");
  await accessible(page, "the form with errors");
  await shot(page, "confirm-errors", { fullPage: false });
  assert.equal(confirmCalls(page).length, 0);

  await keys.insertText("Löschung bestätigt, HR-1042");
  await tabTo(/^Type the connector’s name/);
  await keys.insertText("okta (production)");
  await keys.press("Enter");
  await page.getByText("This is not the name").waitFor();
  await page.getByLabel("Type the connector’s name").fill("Okta (production)");
  await keys.press("Enter");
  await keys.press("Enter");
  await page.getByText("C1 took the sync of Okta (production)").waitFor();
  assert.equal(confirmCalls(page).length, 1, "it is sent once");
  assert.equal(confirmCalls(page)[0].method, "POST");

  const record = page.getByRole("region", { name: "The record" });
  await record.getByText("It was done.").waitFor();
  assert.match(await record.innerText(), /payments\/sync-bot[\s\S]*Löschung bestätigt, HR-1042/);
  await page.getByRole("region", { name: "The sync now" }).getByText("Running").waitFor();
  assert.match(await record.getByRole("link", { name: "Open in the audit" }).getAttribute("href"), /^#\/audit\?request_id=[a-z2-7]+$/);
  assert.match(await record.getByRole("link", { name: "Verify its proof" }).getAttribute("href"), /seq=\d+/);
  await inBothThemes(page, async (theme) => {
    await accessible(page, `the outcome in ${theme}`);
    await shot(page, `confirmed-${theme}`);
  });
  await fits(page);
  await keys.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.equal(await page.getByRole("region", { name: "Syncs that lost their data" }).count(), 0);
  assert.ok(!page.url().includes(connector_id), "the address is clean again");
});

test("presses that repeat send one confirmation, and a page that is left says that it is open", async (t) => {
  const { origin, keys } = await gatewayWithConsole(t);
  const page = await signedIn(t, origin, keys.desk);
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  await page.route("**/ConfirmSyncValid", async (route) => {
    await held;
    await route.continue();
  });
  await review(page);
  const dialog = await fill(page);
  const button = dialog.getByRole("button", { name: "Confirm this sync" });
  await button.evaluate((element) => {
    for (let i = 0; i < 5; i++) element.click();
    element.form.requestSubmit();
  });
  await dialog.getByRole("button", { name: "Confirming" }).waitFor();
  for (let i = 0; i < 3; i++) await page.keyboard.press("Escape"); // browsers let a page refuse once
  assert.ok(await dialog.isVisible(), "the dialog stays until there is an answer");
  await page.keyboard.press("Enter");
  await dialog.getByRole("button", { name: "Confirming" }).click({ force: true });
  assert.equal(confirmCalls(page).length, 1);

  // The page is loaded anew before there is an answer.
  page.on("dialog", (leaving) => void leaving.accept());
  await page.reload();
  release();
  await page.getByText("It may have been confirmed").waitFor();
  await page.getByText("The page was left before the answer came.").waitFor();
  assert.equal(confirmCalls(page).length, 1, "a reload sends nothing again");
  await accessible(page, "an open outcome");
  await page.evaluate(() => { location.hash = "#/syncs"; });
  await page.getByRole("button", { name: "Show what became of it" }).click();
  await page.getByRole("dialog").getByText("It may have been confirmed").waitFor();
  await page.keyboard.press("Escape");
  await page.reload();
  await page.getByText("60 connectors", { exact: true }).waitFor();
  assert.equal(await page.getByText("It may have been confirmed").count(), 0, "who has closed it has taken note");
});

test("an answer that does not come is open, and is not asked for again", async (t) => {
  const { origin, keys, c1 } = await gatewayWithConsole(t);
  c1.answer = ({ path }) => (path.includes("confirm_sync_valid") ? { status: 502, body: "<html>bad gateway</html>" } : undefined);
  const page = await signedIn(t, origin, keys.desk);
  await review(page);
  const dialog = await fill(page);
  await dialog.getByRole("button", { name: "Confirm this sync" }).click();
  await dialog.getByText("It may have been confirmed").waitFor();
  await dialog.getByText("It may have been done: nobody knows but C1.").waitFor();
  await dialog.getByRole("region", { name: "The sync now" }).getByText("Lost its data").waitFor();
  assert.equal(await dialog.getByRole("button", { name: "Back to the form" }).count(), 0);
  assert.equal(c1.seen.filter(({ path }) => path.includes("confirm_sync_valid")).length, 1);
  await accessible(page, "an open outcome");
  await shot(page, "confirm-open");
});

test("C1's refusals are said in words", async (t) => {
  const { origin, keys } = await gatewayWithConsole(t);
  const page = await signedIn(t, origin, keys.desk);
  await review(page);
  let dialog = await fill(page, { sync: "unknown-sync" });
  await dialog.getByRole("button", { name: "Confirm this sync" }).click();
  await dialog.getByText("Not confirmed: C1 does not know this sync").waitFor();
  await dialog.getByRole("button", { name: "Back to the form" }).click();
  dialog = await fill(page, { sync: "../escape" });
  await dialog.getByRole("button", { name: "Confirm this sync" }).click();
  await dialog.getByText("A sync’s id has letters").waitFor();
  dialog = await fill(page, { reason: "é".repeat(257), sync: "nodata-1" });
  await dialog.getByText("514 of 512 bytes").waitFor();
  await dialog.getByRole("button", { name: "Confirm this sync" }).click();
  await dialog.getByText("It is 2 bytes too long.").waitFor();
  await fill(page, { sync: "nodata-1", reason: "é".repeat(256) });
  await dialog.getByRole("button", { name: "Confirm this sync" }).click();
  await dialog.getByText("C1 took the sync of").waitFor();
  await dialog.getByText("It was done.").waitFor();
  await dialog.getByRole("button", { name: "Close" }).last().click();

  await page.goto(`${origin}/console/#/syncs`);
  await page.evaluate(() => { location.hash = "#/syncs?app=2ZqPayrollApp0sandbox0000001&confirm=2ZqOktaConnector0sandbox0001"; });
  dialog = await fill(page, { sync: "nodata-1" });
  await dialog.getByRole("button", { name: "Confirm this sync" }).click();
  await dialog.getByText("Not confirmed: the sync does not wait for it").waitFor();
});

test("a refusal by the policy names its rule and leads to why", async (t) => {
  const { origin, keys } = await gatewayWithConsole(t, { teams: { payments: { allow: [
    { methods: ["c1.**/*"], class: "read" },
    { name: "own-apps", methods: ["c1.api.app.v1.ConnectorService/ConfirmSyncValid"], condition: 'request.app_id == "app-1"' },
  ] } } });
  const page = await signedIn(t, origin, keys.desk);
  await review(page);
  const dialog = await fill(page);
  await dialog.getByRole("button", { name: "Confirm this sync" }).click();
  await dialog.getByText("Not confirmed: refused").waitFor();
  assert.match(await dialog.innerText(), /own-apps[\s\S]*CONDITION_DENIED/);
  await dialog.getByText("It was refused (CONDITION_DENIED), and never sent to C1.").waitFor();
  await accessible(page, "a refusal");
  await shot(page, "confirm-refused");
  await dialog.getByRole("link", { name: "Why was I refused?" }).click();
  await page.getByRole("heading", { name: "Access", exact: true }).waitFor();
  await page.getByText(/ConfirmSyncValid was refused/).waitFor();
});

test("failures are shown where they are: of all apps, of one, and none at all", async (t) => {
  const { origin, keys, c1 } = await gatewayWithConsole(t);
  c1.answer = ({ path }) => (/\/apps\?|\/apps$/.test(path) ? { status: 500, body: '{"code":13,"message":"C1 is not well"}' } : undefined);
  const page = await signedIn(t, origin, keys.desk);
  await page.getByText("The apps could not be listed").waitFor();
  await accessible(page, "a failure");
  await shot(page, "syncs-failed");

  c1.answer = ({ path }) => (path.includes("2ZqEngineeringApp0sandbox001/connectors") ? { status: 403, body: '{"code":7,"message":"not this app"}' } : undefined);
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("region", { name: "Payroll" }).waitFor();
  const engineering = page.getByRole("region", { name: "Engineering" });
  await engineering.getByText("The connectors could not be listed").waitFor();
  c1.answer = undefined;
  await engineering.getByRole("button", { name: "Try again" }).click();
  await engineering.getByText("60 connectors", { exact: true }).waitFor();

  c1.answer = ({ path }) => (/\/apps\?|\/apps$/.test(path) ? { status: 200, body: '{"list":[]}' } : undefined);
  await page.reload();
  await page.getByText("No apps").waitFor();
  await accessible(page, "no apps");
  await fits(page);
});

test("many apps are listed within the limit, a few at once", async (t) => {
  const { origin, keys, c1 } = await gatewayWithConsole(t, { teams: { payments: { limits: { caller: { rate: 20, per: "1s", burst: 10 } } } } });
  let most = 0;
  let now = 0;
  const list = Array.from({ length: 30 }, (_, i) => ({ id: `app-${i}`, displayName: `App ${String(i).padStart(2, "0")}` }));
  c1.answer = ({ path }) => {
    if (/\/apps\?|\/apps$/.test(path)) return { status: 200, body: JSON.stringify({ list }) };
    const app = /\/apps\/(app-\d+)\/connectors/.exec(path)?.[1];
    if (!app) return undefined;
    most = Math.max(most, ++now);
    setTimeout(() => now--, 40);
    return { status: 200, delay: 40, body: JSON.stringify({ list: [{ connector: { id: `c-${app}`, appId: app, displayName: `Of ${app}`, status: { status: "SYNC_STATUS_DONE" } } }] }) };
  };
  const page = await signedIn(t, origin, keys.desk);
  await until(async () => (await page.getByRole("rowheader").count()) === 30, "all apps' connectors are there", 30_000);
  assert.equal(await page.getByText("could not be listed").count(), 0);
  assert.ok(most <= 4, `${most} at once`);
});
