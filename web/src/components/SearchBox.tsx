import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { route, type Term } from "../route";
import { addTerms, readTerms, removeTerm, searchByImage, turnTerm } from "../terms";
import { uploadUrl } from "../uploads";
import { Icon } from "./icons";

export function SearchBox(): JSX.Element {
  const [line, setLine] = useState("");
  const input = useRef<HTMLInputElement>(null);
  const file = useRef<HTMLInputElement>(null);
  const { terms } = route.value;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const at = event.target as HTMLElement;
      if (event.key !== "/" || event.ctrlKey || event.metaKey || at.closest("input, textarea, select, dialog")) return;
      event.preventDefault();
      input.current?.focus();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, []);
  const submit = (event: Event) => {
    event.preventDefault();
    const added = readTerms(line);
    if (added.length) addTerms(added);
    setLine("");
  };
  return (
    <form class="searchbox" role="search" onSubmit={submit}>
      <div class="box" onClick={(event) => event.target === event.currentTarget && input.current?.focus()}>
        <Icon name="search" />
        {terms.map((term) => <Chip key={`${term.kind} ${term.value}`} term={term} onRemoved={() => input.current?.focus()} />)}
        <div class="entry">
          <input
            ref={input}
            type="text"
            enterkeyhint="search"
            autocomplete="off"
            spellcheck={false}
            aria-label="What the images show"
            aria-describedby="search-hint"
            placeholder={terms.length ? "Add a term" : "What do you look for?"}
            value={line}
            onInput={(event) => setLine(event.currentTarget.value)}
            onKeyDown={(event) => {
              const last = terms.at(-1);
              if (event.key === "Backspace" && !line && last) removeTerm(last);
            }}
          />
          <input ref={file} class="sr" type="file" accept="image/*" tabIndex={-1} aria-label="Image to search by" onChange={(event) => {
            const [chosen] = event.currentTarget.files ?? [];
            if (chosen) searchByImage(chosen);
            event.currentTarget.value = "";
          }} />
          <button type="button" class="quiet square" title="Search by an image: choose, drop or paste one" aria-label="Search by an image" onClick={() => file.current?.click()}>
            <Icon name="image" />
          </button>
          <button type="submit" class="primary"><Icon name="search" /><span>Search</span></button>
        </div>
      </div>
      <p id="search-hint" class="hint">
        <kbd>"exact words"</kbd> <kbd>-leave out</kbd> <span class="wide">or drop an image anywhere</span>
      </p>
    </form>
  );
}

const MEANS: Record<Term["kind"], string> = { text: "by meaning", words: "exact words", not: "left out", like: "like this image", upload: "like your image" };

function Chip({ term, onRemoved }: { term: Term; onRemoved: () => void }): JSX.Element {
  const text = term.kind === "upload" ? "your image" : term.value;
  const url = term.kind === "upload" ? uploadUrl(term.value) : undefined;
  const canTurn = term.kind === "text" || term.kind === "words" || term.kind === "not";
  const body = (
    <>
      {url ? <img src={url} alt="" /> : term.kind === "like" || term.kind === "upload" ? <Icon name="like" size={16} /> : null}
      <span class="term">{term.kind === "words" ? `“${text}”` : term.kind === "not" ? `− ${text}` : text}</span>
    </>
  );
  return (
    <span class={`chip ${term.kind}`}>
      {canTurn ? (
        <button type="button" class="turn" title={`${MEANS[term.kind]}: press to change`} aria-label={`${term.value}, ${MEANS[term.kind]}. Change`} onClick={() => turnTerm(term)}>{body}</button>
      ) : (
        <span class="turn" title={term.value}>{body}</span>
      )}
      <button type="button" class="remove" aria-label={`Remove ${text}`} onClick={() => {
        removeTerm(term);
        onRemoved();
      }}>
        <Icon name="close" size={14} />
      </button>
    </span>
  );
}
