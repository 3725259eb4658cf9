import type { JSX } from "preact";

const PATHS = {
  search: "M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14ZM16.2 16.2 21 21",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01",
  close: "M6 6l12 12M18 6 6 18",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  filter: "M4 7h16M7 12h10M10 17h4",
  upload: "M12 16V5M7 10l5-5 5 5M5 19h14",
  like: "M4 4h7v7H4zM13 13h7v7h-7zM13 7.5h7M16.500 4v7M4 16.500h7M7.500 13v7",
  auto: "M12 4a8 8 0 1 0 0 16ZM12 4a8 8 0 0 1 0 16",
  light: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM12 2v2.500M12 19.500V22M2 12h2.500M19.500 12H22M5 5l1.700 1.700M17.300 17.300 19 19M5 19l1.700-1.700M17.300 6.700 19 5",
  dark: "M20 14.500A8.500 8.500 0 0 1 9.500 4a8.500 8.500 0 1 0 10.500 10.500Z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  retry: "M4 12a8 8 0 1 0 2.500-5.800M4 4v4.500h4.500",
  check: "M5 12.500l4.500 4.500L19 7.500",
  warn: "M12 4 2.500 20h19ZM12 10v4.500M12 17.200h.01",
} as const;

/** An icon that says nothing to a screen reader: what it stands beside, or in, has a name. */
export function Icon({ name, size = 20 }: { name: keyof typeof PATHS; size?: number }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 24 24" width={size} height={size} aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
      {name === "auto" && <path class="filled" d="M12 4a8 8 0 0 1 0 16Z" />}
    </svg>
  );
}

export function Logo(): JSX.Element {
  return (
    <svg class="logo" viewBox="0 0 32 32" width="28" height="28" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="9" />
      <circle cx="16" cy="16" r="7.500" />
      <path d="M16 3.500v5M16 23.500v5M3.500 16h5M23.500 16h5" />
      <circle class="pupil" cx="16" cy="16" r="2.800" />
    </svg>
  );
}
