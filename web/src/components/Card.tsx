import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { nameOf, ownAddress, percent, shown } from "../format";
import { address, follow, route } from "../route";
import { moreLike } from "../terms";
import type { Hit } from "../types";
import { Icon } from "./icons";
import { Bars } from "./Scores";

interface Props {
  hit: Hit;
  at: number;
  count: number;
  place: Record<string, string>;
  tabbable: boolean;
  onFocus: () => void;
}

export function Card({ hit, at, count, place, tabbable, onFocus }: Props): JSX.Element {
  const { image, relevance, legs } = hit;
  const name = nameOf(image);
  return (
    <li class="cell" style={place} aria-posinset={at + 1} aria-setsize={count}>
      <a class="card" href={address({ ...route.value, image: image.id })} data-at={at} tabIndex={tabbable ? 0 : -1} onFocus={onFocus} onClick={(event) => follow(event, { image: image.id })}>
        <Thumbnail source={image.thumbnail} caption={name} uri={image.image_uri ?? ""} />
        <span class="text">
          <span class="name" title={name}>{name}</span>
          {relevance !== null && relevance !== undefined ? (
            <span class="relevance">
              <span class="meter" aria-hidden="true"><span style={{ width: percent(relevance) }} /></span>
              <span><span class="sr">Relevance </span>{percent(relevance)}</span>
            </span>
          ) : legs?.length ? <Bars legs={legs} compact /> : <span class="uri">{image.image_uri || brief(image.metadata)}</span>}
          {relevance !== null && relevance !== undefined && legs && legs.length > 1 && <Bars legs={legs} compact />}
        </span>
      </a>
      <button type="button" class="like" tabIndex={tabbable ? 0 : -1} title="More like this" aria-label={`More like ${name}`} onClick={() => moreLike(image.id)}>
        <Icon name="like" size={18} />
      </button>
    </li>
  );
}

/** Return the first values of metadata, as a line. */
function brief(metadata: Record<string, unknown> | null | undefined): string {
  return Object.values(metadata ?? {}).slice(0, 3).map(shown).join(" · ").slice(0, 120);
}

interface ThumbnailProps {
  source: string | null | undefined;
  caption: string;
  uri: string;
  full?: boolean;
}

/** A small image, or the caption as a card where there is none. */
export function Thumbnail({ source, caption, uri, full = false }: ThumbnailProps): JSX.Element {
  const own = ownAddress(source);
  const [failed, setFailed] = useState(false);
  useEffect(() => setFailed(false), [own]);
  if (!own || failed) {
    return (
      <span class="thumb none">
        <span class="quote">{caption}</span>
        {uri && <span class="uri">{uri}</span>}
      </span>
    );
  }
  return (
    <span class="thumb">
      <img src={own} alt={full ? caption : ""} loading={full ? "eager" : "lazy"} decoding="async" draggable={false} onError={() => setFailed(true)} />
    </span>
  );
}
