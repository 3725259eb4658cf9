import type { JSX } from "preact";
import { percent } from "../format";
import { legLabel, legMaxima } from "../results";
import type { Leg } from "../types";

/** A bar for each leg: its score beside the best of this leg. What pushes away grows from the other end. */
export function Bars({ legs, compact = false }: { legs: Leg[]; compact?: boolean }): JSX.Element {
  const share = (leg: Leg): string => percent(Math.abs(leg.score) / (legMaxima.value.get(leg.name) || Math.abs(leg.score) || 1));
  if (compact) {
    return (
      <span class="legs" aria-hidden="true">
        {legs.map((leg) => (
          <span key={leg.name} class={leg.score < 0 ? "leg minus" : "leg"} title={`${legLabel(leg.name)}: ${leg.score.toFixed(3)}`}>
            <span style={{ width: share(leg) }} />
          </span>
        ))}
      </span>
    );
  }
  return (
    <table class="legs-table">
      <caption class="sr">Score of each term</caption>
      <thead class="sr"><tr><th scope="col">Term</th><th scope="col">Score</th><th scope="col">Rank</th></tr></thead>
      <tbody>
        {legs.map((leg) => (
          <tr key={leg.name}>
            <th scope="row">{legLabel(leg.name)}</th>
            <td><span class={leg.score < 0 ? "leg minus" : "leg"} aria-hidden="true"><span style={{ width: share(leg) }} /></span> {leg.score.toFixed(3)}</td>
            <td class="muted">{leg.rank ? `#${leg.rank}` : ""}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
