// What tests in a browser stand on: a gateway with an emulated C1 behind it, pages on
// origins of their own, and a Chromium that is watched. README.md says how to use it.
//
// All that a test starts ends with it. A process is ended by its id.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, extname, join, normalize, sep } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../..", import.meta.url));

const ends = new WeakMap();

// atEnd has something done when the test has ended: what was begun last ends first.
function atEnd(t, work) {
  if (!ends.has(t)) {
    const stack = [];
    ends.set(t, stack);
    t.after(async () => {
      const failures = [];
      for (const end of stack.reverse()) await Promise.resolve().then(end).catch((e) => failures.push(e));
      if (failures.length) throw failures[0];
    });
  }
  ends.get(t).push(work);
}

// folder makes a folder that goes when the test has ended.
export function folder(t) {
  const dir = mkdtempSync(join(tmpdir(), "c1proxy-web-"));
  atEnd(t, () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

// What all tests of a file share ends with the file: an after within a test is that
// test's.
let built;
let browser;

after(async () => {
  if (browser) await (await browser).close();
  if (built) rmSync(dirname(built), { recursive: true, force: true });
});

// binary returns the gateway's program: C1PROXY_BIN, or one that is built once.
export function binary() {
  if (process.env.C1PROXY_BIN) return process.env.C1PROXY_BIN;
  if (!built) {
    const dir = mkdtempSync(join(tmpdir(), "c1proxy-bin-"));
    built = join(dir, "proxy");
    execFileSync("go", ["build", "-o", built, "./cmd/proxy"], { cwd: root, stdio: "inherit" });
  }
  return built;
}

// run starts the program and resolves with the first value that read makes of a line
// of its output. It is stopped, and waited for, when the test has ended.
async function run(t, args, read, options = {}) {
  const child = spawn(binary(), args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  const output = [];
  let stopped = false;
  const ended = new Promise((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal)));
  const stop = async () => {
    if (!stopped) {
      stopped = true;
      if (child.exitCode === null && child.signalCode === null) process.kill(child.pid, "SIGTERM");
    }
    return ended;
  };
  atEnd(t, stop);
  const found = await new Promise((resolve, reject) => {
    const lines = (stream) => {
      let rest = "";
      stream.setEncoding("utf8").on("data", (text) => {
        const all = (rest + text).split("\n");
        rest = all.pop();
        for (const line of all) {
          output.push(line);
          const value = read(line);
          if (value !== undefined) resolve(value);
        }
      });
    };
    lines(child.stdout);
    lines(child.stderr);
    child.once("error", reject);
    void ended.then((how) => reject(new Error(`proxy ${args[0]} ended (${how}) before it was ready:\n${output.join("\n")}`)));
  });
  return { found, output, stop, signal: (name) => process.kill(child.pid, name) };
}

// json reads a line as an object that has a key.
const json = (key) => (line) => {
  if (!line.startsWith("{")) return undefined;
  const value = JSON.parse(line);
  return value[key] === undefined ? undefined : value;
};

// demo starts `proxy demo`: what it prints, such as url, api_key and app_id.
export async function demo(t, ...args) {
  const dir = folder(t);
  const { found, stop, output } = await run(t, ["demo", "--json", "--listen", "127.0.0.1:0", ...args], json("url"), { env: { ...process.env, TMPDIR: dir } });
  return { ...found, origin: new URL(found.url).origin, stop, output };
}

// sandbox starts an emulated C1: its facts.
export async function sandbox(t, ...args) {
  return (await run(t, ["sandbox", "--json", "--listen", "127.0.0.1:0", ...args], json("url"))).found;
}

// recorder stands between the gateway and C1: it keeps what C1 gets, and answers in
// its place where answer returns something, {status, headers, body, delay}, for
// {method, path, body}. Requests for tokens are passed on, and not kept.
export async function recorder(t, target) {
  const seen = [];
  const self = { seen, answer: undefined };
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const token = request.url.startsWith("/auth/");
    if (!token) seen.push({ method: request.method, path: request.url, body: body.toString() });
    const own = token ? undefined : self.answer?.(seen.at(-1));
    if (own) {
      if (own.delay) await new Promise((resolve) => setTimeout(resolve, own.delay));
      response.writeHead(own.status, { "content-type": "application/json", ...own.headers }).end(own.body ?? "{}");
      return;
    }
    const { host: _, connection: __, ...headers } = request.headers;
    try {
      const answer = await fetch(target + request.url, { method: request.method, headers, body: body.length ? body : undefined, redirect: "manual" });
      const back = Object.fromEntries([...answer.headers].filter(([name]) => !["content-encoding", "content-length", "transfer-encoding", "connection", "keep-alive"].includes(name)));
      response.writeHead(answer.status, back).end(Buffer.from(await answer.arrayBuffer()));
    } catch {
      response.destroy();
    }
  });
  self.url = await listen(t, server);
  return self;
}

// gateway starts `proxy serve` in front of an emulated C1.
//
//   callers   {name: {team, ...}}: each gets a key; {desk: {}} without it
//   teams     {name: {allow, limits}}, as in the configuration, in JSON
//   more      further keys of the configuration's top level, such as cors
//
// It returns url, admin, keys by caller, facts, c1 (the recorder), auditDir,
// verifierKey, records(), preflights(), and configure(change), which writes the
// configuration anew and resolves when it is in force.
export async function gateway(t, { callers = { desk: {} }, teams = {}, more = {} } = {}) {
  const dir = folder(t);
  const facts = await sandbox(t);
  const c1 = await recorder(t, facts.url);
  const secret = join(dir, "c1-secret");
  writeFileSync(secret, facts.plain_client_secret, { mode: 0o600 });

  const keys = {};
  const byTeam = {};
  for (const [name, { team = "payments", ...rest }] of Object.entries(callers)) {
    const made = JSON.parse(execFileSync(binary(), ["key", "new", "--json", "--team", team, "--caller", name]));
    keys[name] = made.api_key;
    (byTeam[team] ??= []).push({ name, api_keys: [{ sha256: made.sha256 }], ...rest });
  }
  const config = {
    listen: { address: "127.0.0.1:0" },
    tenants: [{ name: "acme", url: c1.url, allow_insecure: true, credential: { client_id: facts.plain_client_id, client_secret: { file: secret } } }],
    teams: Object.entries(byTeam).map(([name, list]) => ({
      name,
      tenant: "acme",
      callers: list,
      allow: [{ methods: ["c1.**/*"], include_draft: true }],
      limits: { team: { rate: 5000, per: "1s", burst: 10000 }, caller: { rate: 5000, per: "1s", burst: 10000 } },
      ...teams[name],
    })),
    audit: { dir: join(dir, "audit"), key_file: join(dir, "audit.key") },
    admin: { address: "127.0.0.1:0" },
    ...more,
  };
  const file = join(dir, "c1proxy.yaml");
  const write = () => writeFileSync(file, JSON.stringify(config, null, 2)); // YAML too
  write();
  const { found, stop, signal, output } = await run(t, ["serve", "--config", file, "--no-watch"], (line) => {
    const entry = line.startsWith("{") ? JSON.parse(line) : {};
    return entry.msg === "serving" ? entry : undefined;
  });

  const self = {
    url: `http://${found.address}`, origin: `http://${found.address}`, admin: `http://${found.admin}`, verifierKey: found.audit_key,
    keys, facts, c1, output, auditDir: config.audit.dir, stop,
    records: () => JSON.parse(`[${execFileSync(binary(), ["audit", "query", self.auditDir, "--json"], { maxBuffer: 1 << 28 }).toString().trim().split("\n").filter(Boolean).join(",")}]`),
    async metric(name) {
      const text = await (await fetch(`${self.admin}/metrics`)).text();
      const line = text.split("\n").find((l) => l.startsWith(`${name} `));
      return line ? Number(line.slice(name.length + 1)) : undefined;
    },
    async preflights() {
      return { allowed: await self.metric('c1proxy_preflights_total{result="allowed"}'), refused: await self.metric('c1proxy_preflights_total{result="refused"}') };
    },
    async configure(change) {
      change(config);
      write();
      const before = output.length;
      signal("SIGHUP");
      const line = await until(() => output.slice(before).find((one) => /"the configuration (is|was) (not )?/.test(one)), "the configuration is in force");
      assert.doesNotMatch(line, /not reloaded/);
    },
  };
  return self;
}

// until resolves when a condition holds, which is asked again and again, and fails
// with what was awaited if it does not within the time.
export async function until(condition, what = "a condition", within = 15_000) {
  for (const end = Date.now() + within; ; ) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${within} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function listen(t, server) {
  await new Promise((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  atEnd(t, () => new Promise((resolve) => { server.close(resolve); server.closeAllConnections(); }));
  return `http://127.0.0.1:${server.address().port}`;
}

const kinds = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".json": "application/json" };

// serve serves a folder, or {path: text}, on an origin of its own, which it returns.
export async function serve(t, files, headers = {}) {
  return listen(t, createServer(async (request, response) => {
    const path = new URL(request.url, "http://x").pathname;
    const name = path.endsWith("/") ? `${path}index.html` : path;
    try {
      let body = files[name];
      if (typeof files === "string") {
        const file = normalize(join(files, name));
        if (!file.startsWith(files + sep)) throw new Error("outside");
        body = await readFile(file);
      }
      if (body === undefined) throw new Error("none");
      response.writeHead(200, { "content-type": kinds[extname(name)] ?? "application/octet-stream", "cache-control": "no-store", ...headers }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  }));
}

// launched returns the test file's one Chromium. It finds no host but this machine:
// names below .test are 127.0.0.1, as an origin that is no secure context.
async function launched() {
  if (!browser) {
    browser = chromium.launch({
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
        // As playwright has them (the last list counts), and no renderer in reserve, which
        // costs a third of the time that a page takes to open.
        "--disable-features=AvoidUnnecessaryBeforeUnloadCheckSync,DestroyProfileOnBrowserClose,HttpsUpgrades,HttpsFirstBalancedModeAutoEnable,MediaRouter,PaintHolding,OptimizationHints,NetworkTimeServiceQuerying,PreconnectToSearch,Translate,SpareRendererForSitePerProcess",
        "--host-resolver-rules=MAP *.test 127.0.0.1,MAP * ~NOTFOUND,EXCLUDE 127.0.0.1,EXCLUDE localhost"],
    });
  }
  return browser;
}

// open opens a page in a context of its own and watches it. Playwright's page is
// returned with page.watch:
//
//   requests    [{method, url, type}] in their order, preflights included (type
//               "Preflight"), of which Playwright itself does not tell
//   trouble     what went wrong: console errors, uncaught errors, violations of the
//               Content-Security-Policy, requests to hosts that are not in hosts
//   expect(re)  says that there is trouble that matches: it is then none, and the test
//               fails if there is not
//   check()     fails with all unexpected trouble; it is called when the test ends
//
// hosts are "host:port" that the page may ask, beside its own. An RPC's refusal is
// an HTTP error, which Chromium notes in the console: that is no trouble.
export async function open(t, url, { hosts = [], init, ...options } = {}) {
  const context = await (await launched()).newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const allowed = new Set([...(url ? [new URL(url).host] : []), ...hosts.map((h) => (h.includes("://") ? new URL(h).host : h))]);
  const watch = { requests: [], trouble: [], expected: [], hosts: allowed };
  watch.expect = (pattern) => watch.expected.push(pattern);
  watch.check = () => {
    const unexpected = watch.trouble.filter((one) => !watch.expected.some((re) => re.test(one)));
    assert.deepEqual(unexpected, [], "the page is in trouble");
    for (const re of watch.expected) assert.ok(watch.trouble.some((one) => re.test(one)), `there was no trouble like ${re}: ${JSON.stringify(watch.trouble)}`);
  };
  await context.exposeBinding("__violated", (_, text) => void watch.trouble.push(`CSP: ${text}`));
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (e) => {
      globalThis.__violated(`${e.violatedDirective} by ${e.blockedURI} ${e.sample} (${e.sourceFile}:${e.lineNumber})`);
    });
  });
  if (init) await context.addInitScript(init);
  const page = await context.newPage();
  page.on("pageerror", (error) => void watch.trouble.push(`uncaught: ${error.stack ?? error}`));
  page.on("console", (message) => {
    if (message.type() !== "error" && message.type() !== "assert") return;
    const text = message.text();
    if (/^Failed to load resource: the server responded with a status of/.test(text) && /\/[\w.]+\.\w+\/\w+$/.test(new URL(message.location().url || "x:").pathname)) return;
    watch.trouble.push(`console: ${text} (${message.location().url ?? ""})`);
  });
  const devtools = await context.newCDPSession(page);
  await devtools.send("Network.enable");
  devtools.on("Network.requestWillBeSent", ({ request, type }) => {
    watch.requests.push({ method: request.method, url: request.url, type });
    if (/^(data|blob|about):/.test(request.url)) return;
    const { host } = new URL(request.url);
    if (!allowed.has(host)) watch.trouble.push(`request to another host: ${request.method} ${request.url}`);
  });
  page.watch = watch;
  atEnd(t, async () => {
    await context.close();
    watch.check();
  });
  if (url) await page.goto(url);
  return page;
}
