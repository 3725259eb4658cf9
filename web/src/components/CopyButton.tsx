import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { Icon } from "./icons";

export function CopyButton({ text, name }: { text: string; name: string }): JSX.Element {
  const [done, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Pages without TLS have no clipboard: the text is selected the old way.
      const area = document.createElement("textarea");
      area.value = text;
      area.className = "sr";
      (document.querySelector("dialog[open]") ?? document.body).append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    setDone(true);
    window.setTimeout(() => setDone(false), 1500);
  };
  return (
    <button type="button" class="quiet tiny" aria-label={done ? "Copied" : `Copy ${name}`} title={done ? "Copied" : `Copy ${name}`} onClick={() => void copy()}>
      <Icon name={done ? "check" : "copy"} size={15} />
    </button>
  );
}
