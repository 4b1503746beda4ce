// Generates gen/ from proto/. With --check it changes nothing, and fails with a list if
// the committed files are not what the protos say.

import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");
const committed = join(import.meta.dirname, "gen");
const dir = mkdtempSync(join(tmpdir(), "c1proxy-gen-"));

try {
  const buf = ["tool", "-modfile=internal/dev/tools.mod", "buf", "generate", "--template", "buf.gen.web.yaml", "-o", dir];
  execFileSync("go", buf, { cwd: root, stdio: "inherit" });
  const made = join(dir, "web/client/gen");
  if (!process.argv.includes("--check")) {
    rmSync(committed, { recursive: true, force: true });
    cpSync(made, committed, { recursive: true });
  } else {
    const [want, have] = [filesOf(made), filesOf(committed)];
    const changes = [
      ...want.filter((f) => !have.includes(f)).map((f) => `missing  ${f}`),
      ...have.filter((f) => !want.includes(f)).map((f) => `stale    ${f}`),
      ...want.filter((f) => have.includes(f) && !readFileSync(join(made, f)).equals(readFileSync(join(committed, f)))).map((f) => `differs  ${f}`),
    ];
    if (changes.length) {
      console.error(`${changes.join("\n")}\ncheck generated files: not those of the protos: npm run gen`);
      process.exitCode = 1;
    } else console.log(`generated files: as the protos say (${want.length})`);
  }
} finally {
  rmSync(dir, { recursive: true, force: true });
}

function filesOf(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true }).map(String).filter((f) => statSync(join(folder, f)).isFile()).sort();
}
