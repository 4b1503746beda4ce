import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { modules, pack, project } from "../../test/packed.js";

const client = fileURLToPath(new URL("..", import.meta.url));
const tsc = join(modules, "typescript", "bin", "tsc");

// check runs the type checker over a folder, as one kind of project has it.
function check(dir, kind) {
  writeFileSync(join(dir, "tsconfig.json"), JSON.stringify({
    compilerOptions: { target: "ES2022", lib: ["ES2023", "DOM", "DOM.Iterable"], strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, noEmit: true, types: [], ...kind },
    include: ["*.ts"],
  }));
  const { status, stdout } = spawnSync(process.execPath, [tsc, "-p", dir], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
}

const kinds = {
  bundler: { module: "ESNext", moduleResolution: "Bundler" },
  node16: { module: "Node16", moduleResolution: "Node16" },
  nodenext: { module: "NodeNext", moduleResolution: "NodeNext" },
};

test("the packed client has what it needs, and no more", () => {
  const { files } = pack();
  const kept = files.filter((f) => !/^(gen|dist)\/.*\.(js|d\.ts)$/.test(f)).sort();
  assert.deepEqual(kept, ["LICENSE", "README.md", "package.json"]);
  for (const file of ["dist/index.js", "dist/errors.d.ts", "gen/services/c1.api.app.v1/ConnectorService.js", "gen/c1/api/app/v1/app_pb.d.ts"]) assert.ok(files.includes(file), file);
});

for (const [name, kind] of Object.entries(kinds)) {
  test(`the types hold with moduleResolution ${name}`, (t) => {
    const { dir } = project(t);
    cpSync(join(client, "test", "types.ts"), join(dir, "types.ts"));
    check(dir, { ...kind, skipLibCheck: name !== "bundler" });
  });
}

test("a type that does not hold is found", (t) => {
  const { dir } = project(t);
  writeFileSync(join(dir, "wrong.ts"), 'import { explain } from "@c1proxy/client";\nexport const n: number = explain(1).title;\n');
  assert.throws(() => check(dir, kinds.bundler), /wrong\.ts.*TS2322/s);
});

// samples are the fenced blocks of a document, by the name that follows ts, if any.
function samples(document) {
  return [...readFileSync(document, "utf8").matchAll(/^```ts ?(\S*)\n([\s\S]*?)^```$/gm)].map(([, name, text], i) => [name || `sample${i}.ts`, text]);
}

for (const [document, least] of [["README.md", 2], ["../../docs/browser.md", 9]]) {
  test(`the samples of ${document} are right`, (t) => {
    const { dir } = project(t);
    const found = samples(join(client, document));
    assert.ok(found.length >= least, `${found.length} samples`);
    for (const [name, text] of found) {
      assert.ok(!existsSync(join(dir, name)), `${name} is there twice`);
      writeFileSync(join(dir, name), text);
    }
    check(dir, { ...kinds.bundler, noUnusedLocals: true });
  });
}

test("the packed client runs, by every path", (t) => {
  const { dir, installed } = project(t);
  const { exports } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
  const paths = Object.keys(exports).filter((p) => !p.includes("*") && !p.endsWith(".json"));
  const names = [...paths.map((p) => `@c1proxy/client${p.slice(1)}`), "@c1proxy/client/c1.api.app.v1/ConnectorService", "@c1proxy/client/c1proxy.v1/AuditService", "@c1proxy/client/gen/c1/api/app/v1/app_pb"];
  writeFileSync(join(dir, "main.js"), names.map((n) => `console.log(Object.keys(await import(${JSON.stringify(n)})).length > 0);`).join("\n"));
  const out = execFileSync(process.execPath, ["main.js"], { cwd: dir, encoding: "utf8" });
  assert.equal(out, "true\n".repeat(names.length));
});
