import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { layOut, rowsBetween, type Row } from "../layout";
import { shown, words } from "../format";
import { activeImage } from "../active";
import type { Section } from "../results";
import { Card } from "./Card";

interface Props {
  sections: Section[];
  busy: boolean;
  onEnd: () => void;
}

const OVERSCAN = 600;

/** The results. Only the rows in view, and some around them, are in the document. */
export function Grid({ sections, busy, onEnd }: Props): JSX.Element {
  const list = useRef<HTMLUListElement>(null);
  const [width, setWidth] = useState(0);
  const [view, setView] = useState({ top: 0, bottom: 1200 });
  const wantedFocus = useRef<number | null>(null);
  const [active, setActive] = useState(0);

  useLayoutEffect(() => {
    const element = list.current;
    if (!element) return;
    let frame = 0;
    const measure = () => {
      frame = 0;
      const box = element.getBoundingClientRect();
      setWidth(Math.floor(box.width));
      const top = Math.max(0, -box.top - OVERSCAN);
      const bottom = window.innerHeight - box.top + OVERSCAN;
      // Steps of a hundred pixels: between them the same rows are shown.
      setView((old) => {
        const next = { top: Math.floor(top / 100) * 100, bottom: Math.ceil(bottom / 100) * 100 };
        return old.top === next.top && old.bottom === next.bottom ? old : next;
      });
    };
    const soon = () => {
      frame ||= requestAnimationFrame(measure);
    };
    measure();
    const watcher = new ResizeObserver(soon);
    watcher.observe(element);
    window.addEventListener("scroll", soon, { passive: true });
    window.addEventListener("resize", soon);
    return () => {
      cancelAnimationFrame(frame);
      watcher.disconnect();
      window.removeEventListener("scroll", soon);
      window.removeEventListener("resize", soon);
    };
  }, []);

  const layout = useMemo(() => layOut(sections, width), [sections, width]);
  const rows = width ? rowsBetween(layout, view.top, view.bottom) : [];
  const visible = rows.filter((row) => row.kind === "cards");
  const first = visible[0]?.from ?? 0;
  const last = visible.at(-1)?.to ?? 0;
  const tabbable = active >= first && active < last ? active : first;

  useEffect(() => {
    if (width && view.bottom > layout.height) onEnd();
  }, [view.bottom, layout, width]);

  useLayoutEffect(() => {
    if (wantedFocus.current === null) return;
    const card = list.current?.querySelector<HTMLElement>(`[data-at="${wantedFocus.current}"]`);
    if (!card) return;
    wantedFocus.current = null;
    card.focus({ preventScroll: true });
  });

  const focus = (at: number) => {
    const row = layout.rowOf(at);
    const element = list.current;
    if (!row || !element) return;
    wantedFocus.current = at;
    setActive(at);
    const top = element.getBoundingClientRect().top + row.top;
    const header = 96;
    if (top < header) window.scrollBy({ top: top - header });
    else if (top + row.height > window.innerHeight - 16) window.scrollBy({ top: top + row.height - window.innerHeight + 16 });
  };

  useEffect(() => {
    // Whoever has looked at images one by one comes back to where that ended.
    const at = activeImage.value === null ? -1 : sections.flatMap((section) => section.hits).findIndex((hit) => hit.image.id === activeImage.value);
    if (at >= 0) focus(at);
  }, [activeImage.value]);

  const onKeyDown = (event: KeyboardEvent) => {
    const from = Number((event.target as HTMLElement).closest<HTMLElement>("[data-at]")?.dataset["at"] ?? NaN);
    if (Number.isNaN(from) || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = layout.step(from, event.key);
    if (to === null) return;
    event.preventDefault();
    focus(to);
  };

  return (
    <ul ref={list} class={busy ? "grid busy" : "grid"} aria-label="Images" style={{ height: `${layout.height}px` }} onKeyDown={onKeyDown}>
      {rows.flatMap((row) => (row.kind === "header" ? [<Header key={`group ${row.section}`} row={row} section={sections[row.section]} />] : cards(row)))}
    </ul>
  );

  function cards(row: Row): JSX.Element[] {
    const start = layout.sectionStart(row.section);
    return (sections[row.section]?.hits ?? []).slice(row.from - start, row.to - start).map((hit, column) => {
      const at = row.from + column;
      const place = { left: `${column * (layout.cardWidth + layout.gap)}px`, top: `${row.top}px`, width: `${layout.cardWidth}px`, height: `${row.height}px` };
      return <Card key={at} hit={hit} at={at} count={layout.count} place={place} tabbable={at === tabbable} onFocus={() => setActive(at)} />;
    });
  }
}

function Header({ row, section }: { row: Row; section: Section | undefined }): JSX.Element {
  const values = Object.entries(section?.values ?? {});
  return (
    <li class="group" style={{ top: `${row.top}px`, height: `${row.height}px` }}>
      <h2>
        {values.length ? values.map(([field, value]) => (
          <span key={field}><span class="muted">{words(field)}</span> {value === null || value === undefined ? "none" : shown(value)}</span>
        )) : "Others"}
      </h2>
      <span class="muted">{section?.hits.length}</span>
    </li>
  );
}
