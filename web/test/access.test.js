// Access: who one is, what one may call, how often, and why a call was refused.

import assert from "node:assert/strict";
import { test } from "node:test";
import { demo, until } from "./kit.js";
import { accessible, fits, gatewayWithConsole, inBothThemes, shot, signedIn } from "./view.js";

const connectors = "c1.api.app.v1.ConnectorService";

const rules = [
  { methods: ["c1.**/*"], class: "read" },
  { name: "own-apps", methods: [`${connectors}/ForceSync`, `${connectors}/ConfirmSyncValid`], condition: 'request.app_id in ["app-1", "app-2"]' },
  { name: "deletes", methods: [`${connectors}/Delete`], require_reason: true },
];

// refused makes a call that is refused, and returns its request id.
async function refused(origin, key, method, body = {}) {
  const response = await fetch(`${origin}/${method}`, { method: "POST", headers: { authorization: `Bearer ${key}`, "content-type": "application/json" }, body: JSON.stringify(body) });
  assert.notEqual(response.status, 200);
  return response.headers.get("x-request-id");
}

test("one sees who one is, by which rules one may call, and what is left of the limits", async (t) => {
  const { origin, keys } = await gatewayWithConsole(t, {
    teams: { payments: { allow: rules, limits: { caller: { rate: 10, per: "1m", burst: 50, max_in_flight: 5 } } } },
  });
  const page = await signedIn(t, origin, keys.desk, "#/access");
  const you = page.getByRole("region", { name: "You", exact: true });
  await you.getByText("desk", { exact: true }).waitFor();
  assert.match(await you.innerText(), /payments[\s\S]*acme[\s\S]*key:[0-9a-f]{8}/);

  const may = page.getByRole("region", { name: "What your team may call" });
  assert.match(await may.innerText(), /Methods that only read/);
  assert.match(await may.innerText(), /own-apps[\s\S]*All methods of these names, if the condition holds\.[\s\S]*request\.app_id in/);
  assert.match(await may.innerText(), /deletes[\s\S]*if a reason is stated\./);

  const limits = page.getByRole("region", { name: "Your limits" });
  await limits.getByText("10 per minute, 50 at once; 5 under way").waitFor();
  assert.match(await limits.innerText(), /those of the replica that answered, and of no other/);
  const meter = limits.getByRole("meter", { name: "Calls left of You" });
  const left = async () => Number(await meter.evaluate((element) => element.value));
  const before = await left();
  for (let i = 0; i < 10; i++) await fetch(`${origin}/c1.api.app.v1.Apps/List`, { method: "POST", headers: { authorization: `Bearer ${keys.desk}`, "content-type": "application/json" }, body: "{}" });
  await until(async () => (await left()) < before - 5, "the level sinks by itself");
  // In one look, as it is asked for anew every few seconds.
  const [level, words] = await meter.evaluate((element) => [element.value, element.parentElement.textContent]);
  assert.ok(words.startsWith(`${level} of 50`), words);

  await inBothThemes(page, async (theme) => {
    await accessible(page, `Access in ${theme}`);
    await shot(page, `access-${theme}`, { fullPage: true });
  });
  await fits(page);
});

test("one asks of any method whether one may call it", async (t) => {
  const { origin, keys } = await gatewayWithConsole(t, { teams: { payments: { allow: rules } } });
  const page = await signedIn(t, origin, keys.desk, "#/access");
  const section = page.getByRole("region", { name: "May I call…?" });
  const search = section.getByLabel("Search methods");
  await search.waitFor();
  assert.match(await search.getAttribute("placeholder"), /^Search 6\d\d methods$/);
  const explains = () => page.watch.requests.filter(({ url }) => url.includes("/Explain")).length;
  assert.equal(explains(), 0, "nothing is asked before one asks");

  await search.fill("connectorservice");
  await section.getByRole("button", { name: /^Ask for these/ }).click();
  const row = (name) => section.getByRole("row").filter({ has: page.getByRole("link", { name, exact: true }) });
  await row("ConfirmSyncValid").getByText("Depends on the request", { exact: true }).waitFor();
  await row("Get").getByText("Allowed", { exact: true }).waitFor();
  await row("Create").getByText("Refused", { exact: true }).waitFor();
  await until(async () => (await section.getByText("Asking…").count()) === 0, "all are answered");
  const asked = explains();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "All asked", "the button keeps the focus");
  await row("Create").locator("summary").click();
  await row("Create").getByRole("list", { name: "What each rule says" }).waitFor();
  await accessible(page, "verdicts");
  await shot(page, "access-verdicts", { fullPage: true });
  await search.fill("connectorservice create");
  assert.equal(explains(), asked, "what was asked is not asked again");
  await search.fill("nothing is called so");
  await section.getByText("No method matches").waitFor();
  await fits(page);

  // With the keyboard one goes on where one was.
  await search.fill("c1.api.app.v1.Apps/");
  const whether = (name) => row(name).getByRole("button", { name: /whether I may call/ });
  await whether("Get").press("Enter");
  await row("Get").locator("summary").waitFor();
  assert.ok(await row("Get").locator("summary").evaluate((one) => one === document.activeElement), "the answer has the focus");
  await search.fill("app list");
  await section.getByText(/^15 of \d+$/).waitFor();
  await section.getByRole("button", { name: "Show more" }).press("Enter");
  await section.getByRole("button", { name: "Show more" }).waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.closest("tr")?.rowIndex), 16, "the first of those that it showed");
});

test("a request id tells why a call was refused", async (t) => {
  const { origin, keys } = await gatewayWithConsole(t, {
    callers: { desk: {}, guard: { team: "security" } },
    teams: { payments: { allow: rules } },
  });
  const denied = await refused(origin, keys.desk, `${connectors}/ConfirmSyncValid`, { appId: "app-9", connectorId: "c", syncLifecycleId: "s" });
  const reasonless = await refused(origin, keys.desk, `${connectors}/Delete`, { appId: "a", id: "b" });
  const foreign = await refused(origin, keys.guard, "c1.api.app.v1.Apps/Get", { id: "no-such-app" });
  const page = await signedIn(t, origin, keys.desk, "#/access");
  const why = page.getByRole("region", { name: "Why was I refused?" });
  await why.getByRole("button", { name: "Explain" }).click();
  await why.getByText("Paste a request id.").waitFor();
  await why.getByLabel("Request id").fill(` ${denied} `);
  await why.getByLabel("Request id").press("Enter");
  await why.getByText(/^ConfirmSyncValid was refused\./).waitFor();
  assert.match(page.url(), new RegExp(`#/access\\?request_id=${denied}$`));
  await why.getByText("It was refused (CONDITION_DENIED), and never sent to C1.").waitFor();
  const now = page.getByRole("region", { name: "What the policy says now" });
  await now.getByText("own-apps").first().waitFor();
  await inBothThemes(page, async (theme) => {
    await accessible(page, `a refusal explained in ${theme}`);
    await shot(page, `access-why-${theme}`, { fullPage: true });
  });
  await fits(page);

  await page.evaluate((id) => { location.hash = `#/access?request_id=${id}`; }, reasonless);
  await why.getByText(/^Delete was refused\. This needs a reason/).waitFor();
  await now.getByText("wants a reason").waitFor();

  // Another team's call is not told of, nor one that never was.
  await page.evaluate((id) => { location.hash = `#/access?request_id=${id}`; }, foreign);
  await why.getByText("There is no such record").waitFor({ timeout: 40_000 });
  assert.ok(!(await why.innerText()).includes("Apps"));
  await accessible(page, "a record that is not there");
});

test("failures of each part are shown in it", async (t) => {
  const { origin, api_key } = await demo(t);
  const page = await signedIn(t, origin, api_key, "#/syncs");
  await page.getByRole("heading", { name: "Syncs", exact: true }).waitFor();
  page.watch.expect(/descriptors\.binpb/);
  await page.route("**/descriptors.binpb", (route) => route.fulfill({ status: 503 }));
  await page.route("**/Limits*", (route) => route.fulfill({
    status: 429, contentType: "application/json",
    body: JSON.stringify({ code: "resource_exhausted", message: "limit caller is used up" }),
  }));
  await page.getByRole("link", { name: "Access" }).click();
  await page.getByText("The list of methods could not be had").waitFor();
  await page.getByText("The limits could not be had").waitFor();
  await accessible(page, "failures");
  await page.unroute("**/descriptors.binpb");
  await page.unroute("**/Limits*");
  const again = page.getByRole("button", { name: "Try again" });
  for (let left = await again.count(); left > 0; left--) {
    await again.first().click();
    await until(async () => (await again.count()) < left, "a part that is tried again shows its failure no more");
  }
  await page.getByRole("table", { name: "Your limits" }).waitFor();
});
