// Bundles each src/**/*.test.ts and runs it with node:test.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
mkdirSync(join(here, "node_modules"), { recursive: true });
const out = mkdtempSync(join(here, "node_modules", ".unit-")); // below node_modules, so that packages are found
const wanted = process.argv.slice(2);
const tests = readdirSync(join(here, "src"), { recursive: true })
  .filter((name) => name.endsWith(".test.ts") && (wanted.length === 0 || wanted.some((part) => name.includes(part))));
if (tests.length === 0) throw new Error(`no test has ${wanted.join(" or ")} in its name`);
await build({
  absWorkingDir: here,
  entryPoints: tests.map((name) => join("src", name)),
  outdir: out,
  outbase: "src",
  outExtension: { ".js": ".mjs" },
  bundle: true,
  platform: "node",
  format: "esm",
  sourcemap: "inline",
  jsx: "automatic",
  jsxImportSource: "preact",
  logLevel: "warning",
});
const run = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...tests.map((name) => join(out, name.replace(/\.ts$/, ".mjs")))], {
  cwd: here,
  stdio: "inherit",
});
rmSync(out, { recursive: true, force: true });
process.exit(run.status ?? 1);
