import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

/** Nothing is shown before the script has run: the chosen colours and the first view appear at once, and nothing moves. */
const blockRendering: Plugin = {
  name: "block-rendering",
  transformIndexHtml: {
    order: "post",
    handler: (html) =>
      html.replace(/\n\s*\n/g, "\n").replace(/<script type="module" crossorigin/, '<script type="module" blocking="render"')
        .replace(/<link rel="stylesheet" crossorigin/, '<link rel="stylesheet"'),
  },
};

/** What the page was built from: a test reads it, and says when a change of the sources was not built. */
const sources: Plugin = {
  name: "sources",
  generateBundle() {
    const names = (readdirSync(".", { recursive: true }) as string[])
      .map((name) => name.replaceAll("\\", "/"))
      .filter((name) => /^(src\/.*\.\w+|index\.html|vite\.config\.ts|tsconfig\.json|package-lock\.json)$/.test(name))
      .sort();
    const digest = createHash("sha256");
    for (const name of names) digest.update(`${name}\n`).update(readFileSync(name)).update("\n");
    this.emitFile({ type: "asset", fileName: "sources.sha256", source: `${digest.digest("hex")}\n` });
  },
};

export default defineConfig({
  base: "/",
  publicDir: false,
  plugins: [blockRendering, sources],
  // Of the project's own settings, none of a developer's shell.
  envPrefix: "LENSMESH_PAGE_",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../http_svc/static",
    emptyOutDir: true,
    assetsDir: "assets",
    // The policy of the page allows no address of data: but images, and none of them is inlined.
    assetsInlineLimit: 0,
    modulePreload: false,
    reportCompressedSize: true,
    target: ["chrome111", "firefox114", "safari16.4"],
  },
});
