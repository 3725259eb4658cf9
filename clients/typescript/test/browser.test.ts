import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

const IMPORT = /(?:from|import)\s*\(?\s*"([^"]+)"/g;

test("what a browser imports needs nothing of Node", async () => {
  const seen = new Set<string>();
  const packages = new Set<string>();
  const look = async (url: URL): Promise<void> => {
    if (seen.has(url.href)) return;
    seen.add(url.href);
    for (const [, name = ""] of (await readFile(url, "utf8")).matchAll(IMPORT)) {
      if (name.startsWith(".")) await look(new URL(name, url));
      else packages.add(name.split("/").slice(0, 2).join("/"));
    }
  };
  await look(new URL("../src/index.js", import.meta.url));
  assert(seen.size > 15);
  assert.deepEqual([...packages].sort(), ["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-web"]);
});
