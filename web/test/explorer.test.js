// The API explorer: to find a method, fill its request in, call it, and be asked
// before what changes something.

import assert from "node:assert/strict";
import { test } from "node:test";
import { demo, gateway, until } from "./kit.js";
import { accessible, fits, inBothThemes, shot, signedIn } from "./view.js";

const calls = (page, method) => page.watch.requests.filter((request) => new URL(request.url).pathname.endsWith(method) && request.type !== "Preflight");
const answer = (page) => page.getByRole("region", { name: "Answer", exact: true });

test("a method is found by words in any order, and a read runs at once, by GET", async (t) => {
  const { origin, api_key, app_id } = await demo(t);
  const page = await signedIn(t, origin, api_key, "#/explorer");
  await page.getByRole("heading", { name: "API explorer" }).waitFor();
  await page.getByText(/^64\d methods of C1 and c1proxy/).waitFor();
  const methods = page.getByRole("navigation", { name: "Methods" });
  assert.ok((await methods.getByRole("link").count()) < 200, "not all methods are made at once");
  await page.getByLabel("Search methods").fill("get apps");
  await methods.getByRole("link", { name: "Get read" }).first().click();
  await page.getByRole("heading", { name: "Get read" }).waitFor();
  assert.match(page.url(), /#\/explorer\/c1\.api\.app\.v1\.Apps\/Get$/);
  await page.getByText("GET /api/v1/apps/{id}").waitFor();
  await page.getByLabel("id string").fill(app_id);
  await page.getByRole("button", { name: "Call", exact: true }).click();
  await answer(page).getByText("Payroll", { exact: false }).first().waitFor();
  await answer(page).getByText("ok", { exact: true }).waitFor();
  assert.match(await answer(page).innerText(), /\d+ ms/);
  assert.deepEqual(calls(page, "c1.api.app.v1.Apps/Get").map((one) => one.method), ["GET"]);
  await answer(page).getByRole("button", { name: "Text" }).click();
  const text = JSON.parse(await answer(page).locator("pre").innerText());
  assert.equal(text.app.id, app_id);
  await inBothThemes(page, async (theme) => {
    await accessible(page, `the explorer in ${theme}`);
    await shot(page, `explorer-${theme}`);
  });
  await fits(page);
});

test("form and JSON follow each other, and mistakes are told with their path", async (t) => {
  const { origin, api_key } = await demo(t);
  const page = await signedIn(t, origin, api_key, "#/explorer/c1.api.app.v1.Apps/Update");
  await page.getByRole("button", { name: "Add app" }).click();
  await page.getByLabel("displayName string").fill("Payroll 2");
  await page.getByRole("button", { name: "JSON" }).click();
  const json = page.getByLabel("Request in JSON");
  assert.deepEqual(JSON.parse(await json.inputValue()), { app: { displayName: "Payroll 2" } });
  await json.fill(`{"app": {"display_name": "Payroll 3", "descripton": 1}}`);
  await page.getByText("app.descripton", { exact: true }).waitFor();
  await page.getByText(/did you mean description\?/).waitFor();
  assert.ok(await page.getByRole("button", { name: "Call…" }).isDisabled());
  await accessible(page, "a request with mistakes");
  await json.fill(`{"app": {"display_name": "Payroll 3",}}`);
  await page.getByText(/This is not JSON: .*line 1, column 38/).first().waitFor();
  await page.getByRole("button", { name: "Form", exact: true }).click();
  await page.getByText("The JSON does not read").waitFor();
  await page.getByRole("button", { name: "Back to the JSON" }).click();
  await json.fill(`{"app": {"display_name": "Payroll 3", "monthlyCostUsd": "x"}}`);
  await page.getByRole("button", { name: "Form", exact: true }).click();
  assert.equal(await page.getByLabel("displayName string").inputValue(), "Payroll 3");
  await page.getByText("It must be a whole number.").waitFor();
  await page.getByLabel("monthlyCostUsd int32").fill("12");
  await page.getByText("It must be a whole number.").waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Add updateMask" }).waitFor({ state: "detached" });
  await page.getByLabel("updateMask").fill("display_name");
  await page.getByText(/It must be paths such as/).waitFor();
  await page.getByLabel("updateMask").fill("displayName");
  await page.getByRole("button", { name: "JSON" }).click();
  assert.deepEqual(JSON.parse(await json.inputValue()), { app: { displayName: "Payroll 3", monthlyCostUsd: 12 }, updateMask: "displayName" });
  assert.equal(calls(page, "Apps/Update").length, 0);
});

test("a write asks first, with a reason, and is made once", async (t) => {
  const it = await gateway(t, { more: { console: {} } });
  const page = await signedIn(t, it.origin, it.keys.desk, "#/explorer/c1.api.app.v1.Apps/Create");
  await page.getByLabel("displayName string").fill("New app");
  await page.getByRole("button", { name: "Call…" }).click();
  const dialog = page.getByRole("dialog", { name: "Call Create?" });
  await dialog.getByText("New app").waitFor();
  await accessible(page, "the question");
  await shot(page, "explorer-ask");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  assert.equal(calls(page, "Apps/Create").length, 0);

  it.c1.answer = ({ method }) => (method === "POST" ? { status: 500, body: "{}" } : undefined);
  await page.getByRole("button", { name: "Call…" }).click();
  await dialog.getByLabel("Reason").fill("Ünïcode, 100%");
  await dialog.getByRole("button", { name: "Call Create" }).click();
  await page.getByText("It may have acted").waitFor();
  await accessible(page, "an unknown outcome");
  const sent = calls(page, "Apps/Create");
  assert.deepEqual(sent.map((one) => one.method), ["POST"], "never tried again");
  assert.equal(it.c1.seen.filter((one) => one.method === "POST").length, 1);
  const record = await until(() => it.records().find((one) => one.kind === "outcome" && one.procedure?.endsWith("Apps/Create")), "the record");
  assert.equal(record.reason ?? it.records().find((one) => one.id === record.intent)?.reason, "Ünïcode, 100%");
  assert.ok((await answer(page).innerText()).includes(record.request_id));
});

test("what takes away wants the method's name", async (t) => {
  const it = await gateway(t, { more: { console: {} } });
  const page = await signedIn(t, it.origin, it.keys.desk, "#/explorer/c1.api.app.v1.ConnectorService/ConfirmSyncValid");
  await page.getByLabel("appId string").fill("no-such-app");
  await page.getByLabel("connectorId string").fill("no-such-connector");
  await page.getByRole("button", { name: "Call…" }).click();
  const dialog = page.getByRole("dialog", { name: "Call ConfirmSyncValid?" });
  await dialog.getByText("C1 will take this sync as true").waitFor();
  await accessible(page, "the strong question");
  const go = dialog.getByRole("button", { name: "Call ConfirmSyncValid" });
  assert.ok(await go.isDisabled());
  await dialog.getByLabel("To go on, type ConfirmSyncValid").fill("ConfirmSync");
  assert.ok(await go.isDisabled());
  await page.keyboard.press("Enter");
  assert.equal(calls(page, "ConfirmSyncValid").length, 0);
  await dialog.getByLabel("To go on, type ConfirmSyncValid").fill("ConfirmSyncValid");
  await go.click();
  await answer(page).getByRole("alert").waitFor();
  assert.equal(calls(page, "ConfirmSyncValid").length, 1);
});

test("what acts goes on when its view is left, is not made twice meanwhile, and is answered where one comes back", async (t) => {
  const it = await gateway(t, { more: { console: {} } });
  const page = await signedIn(t, it.origin, it.keys.desk, "#/explorer/c1.api.app.v1.ConnectorService/ConfirmSyncValid");
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  await page.route("**/ConfirmSyncValid", async (route) => {
    await held;
    await route.continue();
  });
  await page.getByLabel("appId string").fill("no-such-app");
  await page.getByLabel("connectorId string").fill("no-such-connector");
  await page.getByRole("button", { name: "Call…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("To go on, type ConfirmSyncValid").fill("ConfirmSyncValid");
  await dialog.getByRole("button", { name: "Call ConfirmSyncValid" }).click();
  await page.getByRole("button", { name: "Cancel" }).waitFor();
  await page.getByRole("link", { name: "Syncs" }).click();
  await page.getByRole("link", { name: /^Review and confirm/ }).click();
  await dialog.getByText("Another confirmation is under way").waitFor();
  await page.keyboard.press("Escape");
  await page.evaluate(() => { location.hash = "#/explorer/c1.api.app.v1.ConnectorService/ConfirmSyncValid"; });
  await page.getByRole("button", { name: "Cancel" }).waitFor();
  assert.equal(calls(page, "ConfirmSyncValid").length, 1);
  release();
  await answer(page).getByRole("alert").waitFor();
  assert.equal(calls(page, "ConfirmSyncValid").length, 1);
});

test("a refusal says which rule, a limit what is left, and a long call is cancelled", async (t) => {
  const it = await gateway(t, {
    callers: { desk: {} },
    teams: { payments: { allow: [{ methods: ["c1.api.app.v1.Apps/*"] }] } },
    more: { console: {} },
  });
  const page = await signedIn(t, it.origin, it.keys.desk, "#/explorer/c1.api.user.v1.UserService/List");
  await page.getByRole("button", { name: "Call", exact: true }).click();
  await answer(page).getByText("METHOD_DENIED").waitFor();
  await answer(page).getByText("permission_denied", { exact: true }).first().waitFor();
  await answer(page).getByRole("link", { name: "Why was I refused?" }).waitFor();
  await accessible(page, "a refusal");

  it.c1.answer = () => ({ status: 200, delay: 60_000 });
  await page.goto(`${it.origin}/console/#/explorer/c1.api.app.v1.Apps/List`);
  await page.getByRole("heading", { name: "List read" }).waitFor();
  await page.getByRole("button", { name: "Call", exact: true }).click();
  await page.getByRole("button", { name: "Cancel" }).click();
  await answer(page).getByText("canceled", { exact: true }).first().waitFor();
  it.c1.answer = undefined;
  await page.getByRole("button", { name: "Call", exact: true }).click();
  await answer(page).getByText("ok", { exact: true }).waitFor();
  assert.match(await answer(page).innerText(), /ratelimit/i);
});

test("the snippets hold the request, and not the key", async (t) => {
  const { origin, api_key } = await demo(t);
  const page = await signedIn(t, origin, api_key, "#/explorer/c1.api.app.v1.Apps/Get");
  await page.getByLabel("id string").fill("it's");
  const region = page.getByRole("region", { name: "The same call elsewhere" });
  const text = () => region.locator("pre").innerText();
  assert.match(await text(), /^curl -sS '.*\/c1\.api\.app\.v1\.Apps\/Get' \\\n/);
  assert.ok((await text()).includes(`'{"id":"it'\\''s"}'`), await text());
  await region.getByRole("button", { name: "grpcurl" }).click();
  assert.match(await text(), /^grpcurl -plaintext/);
  await region.getByRole("button", { name: "TypeScript" }).click();
  assert.match(await text(), /from "@c1proxy\/client\/c1\.api\.app\.v1\/Apps"/);
  for (const name of ["curl", "grpcurl", "TypeScript"]) {
    await region.getByRole("button", { name, exact: true }).click();
    assert.ok(!(await text()).includes(api_key));
  }
});

const automation = "#/explorer/c1.api.automations.v1.AutomationService/CreateAutomation";
const step = (page, n) => page.getByRole("group", { name: `automationSteps ${n}`, exact: true });
const requestOf = async (page) => {
  await page.getByRole("button", { name: "JSON", exact: true }).click();
  return JSON.parse(await page.getByLabel("Request in JSON").inputValue());
};

// hasFocus waits until a control has the focus.
const hasFocus = (control, what) => until(() => control.evaluate((one) => one === document.activeElement), `${what} has the focus`);

// addStep adds a step of an automation that calls a connector, with arguments.
async function addStep(page, n, args) {
  await page.getByRole("button", { name: n === 1 ? "Add automationSteps" : "Add another automationSteps", exact: true }).click();
  await step(page, n).getByLabel("Which kind").selectOption("connectorAction");
  await step(page, n).getByLabel("argsTemplate Struct").fill(args);
}

test("lists, maps, choices and nested messages are filled in", async (t) => {
  const { origin, api_key } = await demo(t);
  const page = await signedIn(t, origin, api_key, automation);
  await page.getByRole("button", { name: "Add annotations" }).click();
  for (const [name, value] of [["constructor", "one"], ["b", "two"], ["c", "three"]]) {
    await page.getByLabel("Name of a new value of annotations").fill(name);
    await page.getByRole("button", { name: "Add", exact: true }).click();
    await page.getByLabel(name, { exact: true }).fill(value);
  }
  await page.getByLabel("Name of a new value of annotations").fill("b");
  await page.getByText("It is taken.").waitFor();
  await page.getByRole("button", { name: "Remove b", exact: true }).click();
  await page.getByRole("button", { name: "Add context" }).click();
  await page.getByLabel("context Struct").fill('{"a": [1]}');
  await addStep(page, 1, "{}");
  await step(page, 1).getByLabel("actionName string").fill("unlock");
  await addStep(page, 2, "{}");
  await step(page, 2).getByLabel("Which kind").selectOption("waitForDuration");
  await step(page, 2).getByLabel("stepName string").fill("wait");
  await accessible(page, "a form of lists, maps, choices and messages");
  assert.deepEqual(await requestOf(page), {
    annotations: { constructor: "one", c: "three" },
    context: { context: { a: [1] } },
    automationSteps: [{ connectorAction: { actionName: "unlock", argsTemplate: {} } }, { waitForDuration: {}, stepName: "wait" }],
  });
});

test("what is typed stays with its item when one before it goes", async (t) => {
  const { origin, api_key } = await demo(t);
  const page = await signedIn(t, origin, api_key, automation);
  await addStep(page, 1, '{"n": 1}');
  await addStep(page, 2, '{"n": 2}');
  await page.getByRole("button", { name: "Remove automationSteps 1" }).click();
  assert.equal(await step(page, 1).getByLabel("argsTemplate Struct").inputValue(), '{"n": 2}');
  // What is no JSON is in no request: it stays with its item too, and so does what is said of it.
  await addStep(page, 2, '{"n":');
  await addStep(page, 3, '{"n": 4');
  const problem = (i) => page.getByRole("listitem").getByText(`automationSteps[${i}].connectorAction.argsTemplate`, { exact: true });
  await problem(2).waitFor();
  await page.getByRole("button", { name: "Remove automationSteps 1" }).click();
  await problem(2).waitFor({ state: "detached" });
  for (const [n, text] of [[1, '{"n":'], [2, '{"n": 4']]) {
    assert.equal(await step(page, n).getByLabel("argsTemplate Struct").inputValue(), text);
    assert.equal(await problem(n - 1).count(), 1);
  }
  await page.getByRole("button", { name: "Remove automationSteps 1" }).click();
  await step(page, 2).waitFor({ state: "detached" });
  assert.equal(await problem(0).count(), 1);
  assert.ok(await page.getByRole("button", { name: "Call…" }).isDisabled());
  await page.getByRole("button", { name: "Remove automationSteps 1" }).click();
  await problem(0).waitFor({ state: "detached" });
  await addStep(page, 1, '{"n": 5}');
  assert.deepEqual(await requestOf(page), { automationSteps: [{ connectorAction: { argsTemplate: { n: 5 } } }] });
});

test("the keyboard keeps its place where a button goes", async (t) => {
  const it = await gateway(t, { more: { console: {} } });
  const page = await signedIn(t, it.origin, it.keys.desk, automation);
  const press = async (name) => {
    await page.getByRole("button", { name, exact: true }).press("Enter");
  };
  await press("Add automationSteps");
  await hasFocus(step(page, 1).getByLabel("Which kind"), "what was added");
  await press("Add another automationSteps");
  await hasFocus(step(page, 2).getByLabel("Which kind"), "what was added to it");
  await press("Remove automationSteps 1");
  await step(page, 2).waitFor({ state: "detached" });
  await hasFocus(step(page, 1).getByLabel("Which kind"), "what takes the place of an item");
  await press("Remove automationSteps 1");
  await hasFocus(page.getByRole("button", { name: "Add automationSteps" }), "what adds the first again");
  await press("Add annotations");
  await hasFocus(page.getByLabel("Name of a new value of annotations"), "the name");
  await page.keyboard.type("k");
  await page.keyboard.press("Enter");
  await hasFocus(page.getByLabel("k", { exact: true }), "the value");
  await press("Remove k");
  await hasFocus(page.getByLabel("Name of a new value of annotations"), "the name");
  await press("Remove all annotations");
  await hasFocus(page.getByRole("button", { name: "Add annotations" }), "what adds one");
  await press("Add context");
  await hasFocus(page.getByLabel("context Struct"), "the message’s first field");
  await press("Remove context");
  await hasFocus(page.getByRole("button", { name: "Add context" }), "what adds it again");

  // More of a tree, and of the list of methods.
  it.c1.answer = () => ({ status: 200, body: JSON.stringify({ list: Array.from({ length: 130 }, (_, i) => ({ id: `app-${i}` })) }) });
  await page.goto(`${it.origin}/console/#/explorer/c1.api.app.v1.Apps/List`);
  await page.getByRole("heading", { name: "List read" }).waitFor();
  await press("Call");
  await answer(page).getByRole("button", { name: "30 more" }).press("Enter");
  await answer(page).getByText("app-129").waitFor();
  assert.match(await page.evaluate(() => document.activeElement.textContent.slice(0, 20)), /^100: /);
  const methods = page.getByRole("navigation", { name: "Methods" });
  const more = methods.getByRole("button", { name: /^\d+ more$/ });
  await page.getByLabel("Search methods").fill("create");
  await more.evaluate((button) => {
    button.focus(); // which brings it into sight, and that is enough
    button.click();
  });
  await more.waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => [...document.querySelectorAll(".explorer-list a")].indexOf(document.activeElement)), 60);
});

test("half a character in a reason is replaced, and the call is made", async (t) => {
  const it = await gateway(t, { more: { console: {} } });
  const page = await signedIn(t, it.origin, it.keys.desk, "#/explorer/c1.api.app.v1.Apps/List");
  const reason = page.getByLabel("Reason (optional)");
  await reason.evaluate((input) => {
    input.value = "half \ud83d";
    input.dispatchEvent(new Event("input", { bubbles: true }));
  });
  await page.getByText("C1proxy-Reason: half%20%EF%BF%BD").waitFor();
  assert.equal(await reason.inputValue(), "half \ufffd");
  await page.getByRole("button", { name: "Call", exact: true }).click();
  await answer(page).getByText("ok", { exact: true }).waitFor();
  assert.ok(it.records().some((one) => one.reason === "half \ufffd"));
});

test("a stream is not called here, and a method that is not there is said so", async (t) => {
  const { origin, api_key } = await demo(t);
  const page = await signedIn(t, origin, api_key, "#/explorer/c1proxy.v1.AuditService/Tail");
  await page.getByText("Not called here").waitFor();
  assert.equal(await page.getByRole("button", { name: "Call", exact: true }).count(), 0);
  assert.match(await page.getByRole("region", { name: "The same call elsewhere" }).locator("pre").innerText(), /^grpcurl/);
  await page.goto(`${origin}/console/#/explorer/c1.api.app.v1.Apps/Nope`);
  await page.getByText("There is no such method").waitFor();
});

test("a narrow window shows the list, then the method", async (t) => {
  const { origin, api_key } = await demo(t);
  const page = await signedIn(t, origin, api_key, "#/explorer");
  await page.setViewportSize({ width: 380, height: 740 });
  await page.getByLabel("Search methods").fill("whoami");
  await page.getByRole("link", { name: "WhoAmI read" }).click();
  await page.getByRole("button", { name: "Call", exact: true }).click();
  await answer(page).getByText("sync-bot").first().waitFor();
  await accessible(page, "the explorer, narrow");
  await fits(page);
  await shot(page, "explorer-narrow");
  await page.getByRole("link", { name: "All methods" }).click();
  await page.getByLabel("Search methods").waitFor();
});
