import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { droppedFiles } from "../files";
import { add, looksLikeImage } from "../ingest";
import { go, route } from "../route";
import { searchByImage } from "../terms";
import { Icon } from "./icons";

/** Where files can be dropped: all over the page. One half searches by an image, the other adds what is dropped. */
export function DropZone(): JSX.Element | null {
  const [over, setOver] = useState<"" | "search" | "add">("");
  const [shown, setShown] = useState(false);
  useEffect(() => {
    let depth = 0;
    const holdsFiles = (event: DragEvent) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    const end = () => {
      depth = 0;
      setShown(false);
      setOver("");
    };
    const listeners: [keyof WindowEventMap, (event: Event) => void][] = [
      ["dragenter", (event) => {
        if (!holdsFiles(event as DragEvent)) return;
        event.preventDefault();
        depth += 1;
        setShown(true);
      }],
      ["dragover", (event) => {
        if (!holdsFiles(event as DragEvent)) return;
        event.preventDefault();
        setOver(zoneAt(event));
      }],
      ["dragleave", () => {
        depth -= 1;
        if (depth <= 0) end();
      }],
      ["drop", (event) => {
        const data = (event as DragEvent).dataTransfer;
        if (!data || !holdsFiles(event as DragEvent)) return;
        event.preventDefault();
        const zone = zoneAt(event);
        end();
        void droppedFiles(data).then((files) => take(files, zone));
      }],
      ["paste", (event) => {
        const files = [...((event as ClipboardEvent).clipboardData?.files ?? [])].filter(looksLikeImage);
        if (!files.length) return;
        event.preventDefault();
        take(files, route.value.view === "add" ? "add" : "search");
      }],
    ];
    for (const [name, listener] of listeners) window.addEventListener(name, listener);
    return () => {
      for (const [name, listener] of listeners) window.removeEventListener(name, listener);
    };
  }, []);
  if (!shown) return null;
  return (
    <div class="dropzone">
      <div class={over === "search" ? "zone over" : "zone"} data-zone="search">
        <Icon name="search" size={36} />
        <p>Search by this image</p>
      </div>
      <div class={over === "add" ? "zone over" : "zone"} data-zone="add">
        <Icon name="upload" size={36} />
        <p>Add to the collection</p>
      </div>
    </div>
  );
}

function zoneAt(event: Event): "search" | "add" {
  const zone = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-zone]")?.dataset["zone"] : undefined;
  return zone === "add" || (!zone && route.value.view === "add") ? "add" : "search";
}

/** Search by one image, or add all files. Several files cannot be searched by: they are added. */
function take(files: File[], zone: "search" | "add"): void {
  const [first] = files;
  if (!first) return;
  if (zone === "search" && files.length === 1) searchByImage(first);
  else {
    add(files, route.value.collection, true);
    go({ view: "add", image: "" });
  }
}
