// Prints what a page takes that calls one service, by the packed client's own paths:
// bundled by esbuild, minified, and compressed by gzip. It fails over the budget that
// package.json sets (bundle).

import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const { bundle: budgets } = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8"));

const pages = {
  connect: `import { createClient } from "@connectrpc/connect";
    import { createConnectTransport } from "@connectrpc/connect-web";
    console.log(createClient({}, createConnectTransport({ baseUrl: "/" })));`,
  ConnectorService: `import { createClient } from "@connectrpc/connect";
    import { createConnectTransport } from "@connectrpc/connect-web";
    import { ConnectorService } from "@c1proxy/client/c1.api.app.v1/ConnectorService";
    console.log(createClient(ConnectorService, createConnectTransport({ baseUrl: "/" })));`,
  "ConnectorService, helpers": `import { createClient } from "@connectrpc/connect";
    import { createTransport, because, explain, retry } from "@c1proxy/client";
    import { ConnectorService } from "@c1proxy/client/c1.api.app.v1/ConnectorService";
    console.log(createClient(ConnectorService, createTransport({ baseUrl: "/", credential: "", interceptors: [retry()] })), because, explain);`,
};

for (const [name, contents] of Object.entries(pages)) {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: import.meta.dirname },
    bundle: true, minify: true, format: "esm", target: "es2022", write: false,
  });
  const [{ contents: bytes }] = outputFiles;
  const size = gzipSync(bytes, { level: 9 }).length;
  const budget = budgets[name];
  console.log(`${name}: ${bytes.length} bytes, ${size} by gzip${budget ? `, of ${budget}` : ""}`);
  if (budget && size > budget) {
    console.error(`${name}: over its budget by ${size - budget} bytes`);
    process.exitCode = 1;
  }
}
