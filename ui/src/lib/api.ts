// Talking to the server: the API's envelope, errors with their kind, and a hook that loads, reloads and gives up with its component.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { base } from "./env";

export class ApiError extends Error {
  constructor(
    message: string,
    readonly kind: string,
    readonly status: number,
    readonly stopping: string | null = null,
    /// Everything the answer says.
    readonly body: unknown = null,
  ) {
    super(message);
  }
}

export interface Answer<T> {
  data: T;
  warnings: string[];
  infos: string[];
  /// How long it took, ms.
  took: number;
  /// Size of the body, characters.
  size: number;
}

type Params = Record<string, string | number | undefined | null> | URLSearchParams;

function encode(params: Params): URLSearchParams {
  if (params instanceof URLSearchParams) return params;
  const out = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) if (value !== undefined && value !== null) out.set(key, String(value));
  return out;
}

/// Longest query string that is sent in an address.
const GET_MAX = 2000;

async function envelope<T>(started: number, response: Response): Promise<Answer<T>> {
  const text = await response.text();
  const took = performance.now() - started;
  if (response.status === 204) return { data: undefined as T, warnings: [], infos: [], took, size: 0 };
  let body: { status?: string; data?: T; error?: string; errorType?: string; warnings?: string[]; infos?: string[] };
  try {
    body = JSON.parse(text);
  } catch {
    const stopping = response.headers.get("X-Prometheus-Stopping");
    if (response.status === 503 && stopping !== null) throw new ApiError(stopping === "true" ? "The server is stopping." : "The server is starting.", "not_ready", 503, stopping);
    throw new ApiError(`HTTP ${response.status}: ${text.slice(0, 300) || response.statusText}`, "http", response.status);
  }
  if (body.status !== "success") throw new ApiError(body.error ?? `HTTP ${response.status}`, body.errorType ?? "http", response.status, null, body);
  return { data: body.data as T, warnings: body.warnings ?? [], infos: body.infos ?? [], took, size: text.length };
}

async function send(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(base + url, { credentials: "same-origin", ...init });
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw new ApiError("The server does not answer.", "network", 0);
  }
}

/// Reads from the API: `get("query", {query: "up"})`. What is too long for an address is sent as a form.
export async function get<T>(path: string, params: Params = {}, signal?: AbortSignal): Promise<Answer<T>> {
  const started = performance.now();
  const query = encode(params).toString();
  const asForm = query.length > GET_MAX;
  const url = `api/v1/${path}${query && !asForm ? `?${query}` : ""}`;
  const form = { method: "POST", body: query, headers: { "Content-Type": "application/x-www-form-urlencoded" } };
  return envelope<T>(started, await send(url, { ...(asForm ? form : {}), signal }));
}

/// Changes something.
export async function post<T>(path: string, params: Params = {}, signal?: AbortSignal): Promise<Answer<T>> {
  const started = performance.now();
  const init = { method: "POST", body: encode(params).toString(), headers: { "Content-Type": "application/x-www-form-urlencoded" } };
  return envelope<T>(started, await send(`api/v1/${path}`, { ...init, signal }));
}

/// Sends a text as it is.
export async function postText<T>(path: string, body: string, signal?: AbortSignal): Promise<Answer<T>> {
  const started = performance.now();
  const init = { method: "POST", body, headers: { "Content-Type": "text/plain; charset=utf-8" } };
  return envelope<T>(started, await send(`api/v1/${path}`, { ...init, signal }));
}

export const fetchRaw = (path: string, init: RequestInit = {}) => send(path, init);

export interface Loaded<T> {
  answer: Answer<T> | null;
  data: T | null;
  error: ApiError | null;
  loading: boolean;
  /// When the data came, ms.
  at: number;
  reload: () => void;
}

/// Loads while the component is there; again when path or parameters change, and every `refresh` ms while the page is visible.
/// The last data stay until new ones are there.
export function useApi<T>(path: string | null, params: Params = {}, refresh = 0): Loaded<T> {
  const [state, setState] = useState<Omit<Loaded<T>, "reload">>({ answer: null, data: null, error: null, loading: path !== null, at: 0 });
  const [turn, setTurn] = useState(0);
  const key = path === null ? null : `${path}?${encode(params)}`;
  const last = useRef<string | null>(null);
  useEffect(() => {
    if (path === null || key === null) return;
    const abort = new AbortController();
    const isNew = last.current !== path;
    last.current = path;
    setState((old) => ({ ...old, loading: true, ...(isNew ? { data: null, answer: null, error: null } : {}) }));
    get<T>(path, params, abort.signal).then(
      (answer) => setState({ answer, data: answer.data, error: null, loading: false, at: Date.now() }),
      (error) => {
        if (abort.signal.aborted) return;
        setState((old) => ({ ...old, error: error as ApiError, loading: false }));
      },
    );
    return () => abort.abort();
  }, [key, turn]);
  const reload = useCallback(() => setTurn((n) => n + 1), []);
  useEffect(() => {
    if (refresh <= 0) return;
    const timer = setInterval(() => document.visibilityState === "visible" && reload(), refresh);
    return () => clearInterval(timer);
  }, [refresh, reload]);
  return { ...state, reload };
}
