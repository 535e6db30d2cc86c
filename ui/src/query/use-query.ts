// Runs a query of a panel: one at a time, the older one cancelled; the last answer stays while the next is on its way.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, type Answer, type ApiError } from "../lib/api";
import type { QueryData } from "./types";

export interface Running {
  answer: Answer<QueryData> | null;
  error: ApiError | null;
  loading: boolean;
  /// The parameters that the answer belongs to.
  asked: Record<string, string | number> | null;
}

export function useQuery(path: "query" | "query_range", expr: string, params: () => Record<string, string | number>, deps: unknown[], onError: (text: string | null) => void): Running {
  const [state, setState] = useState<Running>({ answer: null, error: null, loading: false, asked: null });
  const expression = useRef(expr);
  useEffect(() => {
    if (expr === "") {
      setState({ answer: null, error: null, loading: false, asked: null });
      return;
    }
    const abort = new AbortController();
    const asked: Record<string, string | number> = { query: expr, ...params() };
    const isNew = expression.current !== expr;
    expression.current = expr;
    setState((old) => ({ ...old, ...(isNew ? { answer: null } : {}), error: null, loading: true }));
    get<QueryData>(path, asked, abort.signal).then(
      (answer) => {
        setState({ answer, error: null, loading: false, asked });
        onError(null);
      },
      (error) => {
        if (abort.signal.aborted) return;
        setState({ answer: null, error: error as ApiError, loading: false, asked });
        onError((error as ApiError).message);
      },
    );
    return () => abort.abort();
  }, [expr, ...deps]);
  return state;
}
