/**
 * Makes the images of a folder findable, then searches.
 *
 *     node dist/examples/ingest-and-search.js FOLDER "a cat on a sofa"
 *
 * LENSMESH_TARGET is the router (127.0.0.1:50050), LENSMESH_COLLECTION the collection.
 */
import { createNodeClient, imagesOf, LensmeshError } from "lensmesh-client/node";

const [folder, text] = process.argv.slice(2);
if (folder === undefined || text === undefined) {
  throw new Error("usage: ingest-and-search FOLDER TEXT");
}
const target = process.env["LENSMESH_TARGET"] ?? "127.0.0.1:50050";
const collection = process.env["LENSMESH_COLLECTION"] ?? "";

const client = createNodeClient({ target });
try {
  const results = client.ingestMany(imagesOf(folder), {
    collection,
    onProgress: ({ read, done, failed }) => process.stderr.write(`\r${done} of ${read}, ${failed} failed`),
    onResume: (error, items) => process.stderr.write(`\n${error.message}: ${items} items are sent again\n`),
  });
  for await (const { ref, outcome, error } of results) {
    console.log(`${ref}: ${outcome}${error ? ` (${error.reason}: ${error.message})` : ""}`);
  }
  const { hits } = await client.search(text, { collection, limit: 3 });
  for (const { item, score } of hits) {
    console.log(`${score.toFixed(3)} ${item?.imageUri} ${item?.caption?.text ?? ""}`);
  }
} catch (thrown) {
  const { message, reason, requestId } = LensmeshError.from(thrown);
  console.error(`${reason}: ${message} (request ${requestId})`);
  process.exitCode = 1;
} finally {
  client.close();
}
