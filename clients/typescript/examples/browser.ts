/**
 * A page's search box and file input. Bundle it, or name the packages in an import map; a door of another origin has to
 * allow the page's (LENSMESH_HTTP_ORIGINS).
 */
import { createClient, LensmeshError } from "lensmesh-client";

const client = createClient({ baseUrl: location.origin });

/** Show what is found in a list: as text, because captions are words of strangers. */
export async function search(words: string, list: HTMLElement): Promise<void> {
  try {
    const { hits } = await client.search(words, { limit: 20 });
    list.replaceChildren(
      ...hits.map(({ item }) => {
        const entry = document.createElement("li");
        entry.textContent = `${item?.id}: ${item?.caption?.text ?? ""}`;
        return entry;
      }),
    );
  } catch (thrown) {
    list.textContent = LensmeshError.from(thrown).message;
  }
}

/** Make the files of an input findable, and tell how far that is. */
export async function ingest(input: HTMLInputElement, tell: (text: string) => void): Promise<void> {
  const items = Array.from(input.files ?? [], (file) => ({ ref: file.name, image: file }));
  for await (const { ref, error } of client.ingestMany(items, {
    onProgress: ({ done }) => tell(`${done}/${items.length}`),
  })) {
    if (error !== undefined) {
      tell(`${ref}: ${error.message}`);
    }
  }
}
