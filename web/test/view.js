// What tests of the console's views share.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { gateway, open, until } from "./kit.js";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const shots = fileURLToPath(new URL("shots/", import.meta.url));

// gatewayWithConsole is kit's gateway, which serves the console as the configuration's
// console says.
export function gatewayWithConsole(t, { console = {}, more = {}, ...rest } = {}) {
  return gateway(t, { ...rest, more: { console, ...more } });
}

// signedIn opens a view of the console in a tab that is signed in with a key. The form
// is for the tests of signing in.
export async function signedIn(t, origin, key, hash = "#/syncs", options = {}) {
  const page = await open(t, undefined, { hosts: [origin], ...options });
  page.setDefaultTimeout(10_000);
  await page.addInitScript(([at, kept]) => {
    if (location.origin !== at || window.top !== window || sessionStorage.getItem("signed-in")) return;
    sessionStorage.setItem("signed-in", "once");
    sessionStorage.setItem("c1proxy.session", kept);
  }, [origin, JSON.stringify({ key })]);
  await page.goto(`${origin}/console/${hash}`);
  await page.getByRole("navigation", { name: "Views" }).waitFor({ state: "attached" });
  return page;
}

const dark = new WeakSet();

// accessible fails with what axe-core finds wrong with the page as it is. Colours are
// all that the dark theme changes: within inBothThemes it looks at them alone there.
export async function accessible(page, what = "the page") {
  if (!(await page.evaluate(() => "axe" in globalThis))) await page.evaluate(axe);
  // A colour that is on its way to another is nobody's to read.
  await page.evaluate(() => Promise.all(document.getAnimations().filter((one) => one.effect?.getComputedTiming().endTime !== Infinity).map((one) => one.finished.catch(() => {}))));
  const runOnly = dark.has(page) ? ["color-contrast"] : ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
  const { violations } = await page.evaluate((rules) => globalThis.axe.run(document, { runOnly: rules, resultTypes: ["violations"] }), runOnly);
  const found = violations.flatMap(({ id, help, nodes }) => nodes.map((node) => `${id}: ${help}: ${node.target.join(" ")}: ${node.failureSummary}`));
  assert.deepEqual(found, [], `axe-core finds fault with ${what}`);
}

// inBothThemes calls check in light and in dark.
export async function inBothThemes(page, check) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    if (colorScheme === "dark") dark.add(page);
    await check(colorScheme);
  }
  dark.delete(page);
  await page.emulateMedia({ colorScheme: "light" });
}

// fits fails if the page scrolls sideways in a window of a width.
export async function fits(page, width = 360) {
  const before = page.viewportSize();
  await page.setViewportSize({ width, height: 740 });
  const beyond = () => page.evaluate(() => {
    const most = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= most) return [];
    const out = [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > most + 1);
    return out.slice(0, 5).map((one) => `${one.tagName}.${one.className}: ${one.textContent?.slice(0, 40)}`);
  });
  // The window has its size before the page is laid out for it.
  await until(async () => (await beyond()).length === 0, "the page fits", 5000).catch(() => {});
  assert.deepEqual(await beyond(), [], `the page scrolls sideways at ${width} px`);
  await page.setViewportSize(before);
}

// shot writes a screenshot into web/test/shots, which are looked at and not kept.
export async function shot(page, name, options = {}) {
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: `${shots}${name}.png`, animations: "disabled", ...options });
}
