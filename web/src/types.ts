/** Shapes of the REST face, as far as the page reads them. Everything in them may come from strangers: it is text only. */

export type Scalar = string | number | boolean;

export interface Image {
  id: string;
  collection?: string;
  caption?: string | null;
  caption_model?: string | null;
  image_uri?: string | null;
  metadata?: Record<string, unknown> | null;
  content_digest?: string | null;
  created_at?: string | null;
  updated_at?: string | null;
  thumbnail?: string | null;
  original?: string | null;
}

export interface Leg {
  name: string;
  score: number;
  rank?: number | null;
}

export interface Hit {
  image: Image;
  score?: number | null;
  relevance?: number | null;
  rank?: number | null;
  legs?: Leg[] | null;
}

export interface Group {
  values: Record<string, unknown>;
  hits: Hit[];
}

export interface ApiErrorBody {
  code?: string;
  reason?: string;
  message?: string;
  fields?: { field: string; description: string }[];
  retry_after_seconds?: number | null;
}

export interface SearchAnswer {
  hits: Hit[];
  groups?: Group[] | null;
  exact?: boolean;
  encode_ms?: number;
  store_ms?: number;
  failed_queries?: { name: string; error: ApiErrorBody }[];
}

export interface ImagesPage {
  images: Image[];
  next_page_token?: string;
  total?: number | null;
}

export interface Facet {
  field: string;
  values: { value: Scalar; count: number | string }[];
}

export interface FacetsAnswer {
  facets: Facet[];
  total?: number | string;
}

export interface Collection {
  name: string;
  item_count?: number | string;
  fields?: { field: string; type?: string }[];
}

export interface Job {
  id: string;
  kind?: string;
  collection?: string;
  state?: string;
  cancel_requested?: boolean;
  done_count?: number | string;
  total_count?: number | string;
  units_per_second?: number;
  time_left_ms?: number | string | null;
  message?: string;
  error?: ApiErrorBody | null;
  created_at?: string | null;
}

export interface Device {
  id: string;
  name?: string;
  memory_total_bytes?: number;
  memory_used_bytes?: number;
}

export interface Model {
  name: string;
  backend?: string;
  precision?: string;
  devices?: Device[];
}

export interface Service {
  kind: string;
  address?: string;
  health?: string;
  reason?: string;
  models?: Model[];
  version?: string;
  store?: string;
  memory_bytes?: number;
}

export interface Status {
  services: Service[];
  default_collection?: string;
  limits?: Record<string, number | string | string[] | null>;
  media?: { thumbnails?: boolean; originals?: boolean; trouble?: string };
  trace_url?: string | null;
}

export interface IngestLine {
  ref?: string;
  index?: number;
  name?: string;
  image?: Image;
  outcome?: string;
  error?: ApiErrorBody;
  done?: Record<string, number>;
}
