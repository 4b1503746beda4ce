// The client as its users have it: packed, and installed far from its sources.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { after } from "node:test";
import { build } from "esbuild";

const client = fileURLToPath(new URL("../client", import.meta.url));
export const modules = fileURLToPath(new URL("../node_modules", import.meta.url));

let kept;

after(() => kept && rmSync(dirname(kept.tarball), { recursive: true, force: true }));

// pack builds and packs the client, once: the package's path, and the files in it.
export function pack() {
  if (!kept) {
    const dir = mkdtempSync(join(tmpdir(), "c1proxy-pack-"));
    execFileSync(process.execPath, [join(modules, "typescript", "bin", "tsc"), "-p", client], { stdio: "inherit" });
    const said = execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", dir], { cwd: client, stdio: ["ignore", "pipe", "ignore"] });
    const [{ filename, files }] = JSON.parse(said);
    kept = { tarball: join(dir, filename), files: files.map((f) => f.path) };
  }
  return kept;
}

// project makes a folder with the packed client in its node_modules, beside what that
// one needs, and returns both paths. It goes with the test.
export function project(t) {
  const { tarball } = pack();
  const dir = mkdtempSync(join(tmpdir(), "c1proxy-app-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const installed = join(dir, "node_modules", "@c1proxy", "client");
  mkdirSync(installed, { recursive: true });
  execFileSync("tar", ["-xzf", tarball, "-C", installed, "--strip-components=1"]);
  for (const scope of ["@bufbuild", "@connectrpc"]) symlinkSync(join(modules, scope), join(dir, "node_modules", scope));
  writeFileSync(join(dir, "package.json"), '{"type": "module"}');
  return { dir, installed };
}

// bundle writes files, {name: text}, into such a folder and returns the first one,
// bundled for a page.
export async function bundle(t, files) {
  const { dir } = project(t);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
  const { outputFiles } = await build({
    entryPoints: [join(dir, Object.keys(files)[0])],
    bundle: true, format: "esm", target: "es2022", write: false, preserveSymlinks: true, absWorkingDir: dir,
  });
  return outputFiles[0].text;
}
