import type { Section } from "./results";

/** Where rows of cards and titles of groups lie, so that only those in view are drawn. */

export interface Row {
  kind: "header" | "cards";
  section: number;
  top: number;
  height: number;
  /** Numbers of the cards among all, `to` not included. */
  from: number;
  to: number;
}

const LEAST_CARD = 208;
const LEAST_CARD_NARROW = 148;
const NARROW = 560;
const TEXT_HEIGHT = 82;
const HEADER_HEIGHT = 52;

export class Layout {
  readonly rows: Row[] = [];
  readonly height: number;
  readonly count: number;
  private readonly starts: number[] = [];

  constructor(sections: readonly Section[], readonly columns: number, readonly cardWidth: number, readonly gap: number) {
    const cardHeight = Math.round(cardWidth * 0.75) + TEXT_HEIGHT;
    let top = 0;
    let at = 0;
    sections.forEach((section, number) => {
      this.starts.push(at);
      if (section.values) {
        this.rows.push({ kind: "header", section: number, top, height: HEADER_HEIGHT, from: at, to: at });
        top += HEADER_HEIGHT;
      }
      const end = at + section.hits.length;
      for (; at < end; at = Math.min(end, at + columns)) {
        this.rows.push({ kind: "cards", section: number, top, height: cardHeight, from: at, to: Math.min(end, at + columns) });
        top += cardHeight + gap;
      }
    });
    this.height = Math.max(0, top - gap);
    this.count = at;
  }

  sectionStart(section: number): number {
    return this.starts[section] ?? 0;
  }

  rowOf(at: number): Row | undefined {
    return this.rows.find((row) => row.kind === "cards" && row.from <= at && at < row.to);
  }

  /** Return the card that a key leads to, or null for keys that lead nowhere. */
  step(from: number, key: string): number | null {
    const last = this.count - 1;
    if (key === "ArrowLeft") return Math.max(0, from - 1);
    if (key === "ArrowRight") return Math.min(last, from + 1);
    if (key === "Home") return 0;
    if (key === "End") return last;
    const rows = this.rows.filter((row) => row.kind === "cards");
    const present = rows.findIndex((row) => row.from <= from && from < row.to);
    const row = rows[present];
    if (!row) return null;
    const beside = key === "ArrowDown" ? rows[present + 1] : key === "ArrowUp" ? rows[present - 1] : undefined;
    if (beside) return Math.min(beside.to - 1, beside.from + from - row.from);
    return key === "ArrowDown" || key === "ArrowUp" ? from : null;
  }
}

/** Return the layout of sections in a place of this width, in pixels. */
export function layOut(sections: readonly Section[], width: number): Layout {
  const narrow = width < NARROW;
  const gap = narrow ? 12 : 20;
  const columns = Math.max(1, Math.floor((width + gap) / ((narrow ? LEAST_CARD_NARROW : LEAST_CARD) + gap)));
  return new Layout(sections, columns, Math.floor((width - gap * (columns - 1)) / columns), gap);
}

/** Return the rows that lie between two heights. */
export function rowsBetween(layout: Layout, top: number, bottom: number): Row[] {
  let low = 0;
  let high = layout.rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const row = layout.rows[middle] as Row;
    if (row.top + row.height < top) low = middle + 1;
    else high = middle;
  }
  const found: Row[] = [];
  for (let at = low; at < layout.rows.length && (layout.rows[at] as Row).top <= bottom; at += 1) found.push(layout.rows[at] as Row);
  return found;
}
