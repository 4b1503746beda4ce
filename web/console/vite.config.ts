import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

// The console is served below /console/ by the binary that embeds dist. In
// development, C1PROXY is where a gateway listens: go run ./cmd/proxy demo.
const gateway = process.env["C1PROXY"] ?? "http://127.0.0.1:8080";

export default defineConfig({
  base: "/console/",
  build: {
    target: "es2022",
    outDir: "dist",
    assetsInlineLimit: 0, // the Content-Security-Policy allows no data: URL
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  resolve: {
    // The client's helpers, out of their sources: there is then nothing to build first.
    alias: [{ find: /^@c1proxy\/client\/helpers\/(\w+)$/, replacement: fileURLToPath(new URL("../client/src/$1.ts", import.meta.url)) }],
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  server: {
    proxy: {
      "^/(c1|c1proxy)\\.": gateway,
      "^/console/(config\\.json|descriptors\\.binpb)$": gateway,
    },
  },
});
