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
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  server: {
    proxy: {
      "^/(c1|c1proxy)\\.": gateway,
      "^/console/(config\\.json|descriptors\\.binpb)$": gateway,
    },
  },
});
