// Earlier queries and favourites, searched, run again, and taken along as a file.
import { useState } from "preact/hooks";
import { search } from "../lib/fuzzy";
import { enableQueryHistory, favourites, queryHistory } from "../lib/settings";
import { Check, Dialog, download, Empty, IconButton, SearchBox } from "../lib/ui";

export function HistoryDialog({ onClose, onInsert }: { onClose: () => void; onInsert: (query: string) => void }) {
  const [pattern, setPattern] = useState("");
  const toggle = (query: string) => {
    favourites.value = favourites.value.includes(query) ? favourites.value.filter((q) => q !== query) : [query, ...favourites.value];
  };
  const list = (title: string, all: string[]) => {
    const found = search(pattern, all, (query) => query);
    return (
      <section>
        <h3>{title}</h3>
        {found.length === 0 && <Empty>{all.length === 0 ? "None yet." : "None fits."}</Empty>}
        <ul class="plain-list">
          {found.map((query) => (
            <li key={query}>
              <IconButton icon="star" label={favourites.value.includes(query) ? "No longer a favourite" : "Keep as favourite"} aria-pressed={favourites.value.includes(query)} onClick={() => toggle(query)} />
              <button type="button" class="link mono" onClick={() => onInsert(query)}>
                {query}
              </button>
            </li>
          ))}
        </ul>
      </section>
    );
  };
  const exported = () => download("queries.json", "application/json", JSON.stringify({ favourites: favourites.value, history: queryHistory.value }, null, 2));
  return (
    <Dialog title="History and favourites" onClose={onClose} wide>
      <div class="toolbar">
        <SearchBox value={pattern} onInput={setPattern} label="Search queries" />
        <Check label="Keep a history" checked={enableQueryHistory.value} onChange={(on) => (enableQueryHistory.value = on)} />
        <button type="button" class="button" onClick={exported}>
          Export
        </button>
        <button type="button" class="button" onClick={() => (queryHistory.value = [])}>
          Clear history
        </button>
      </div>
      {list("Favourites", favourites.value)}
      {list("History", queryHistory.value)}
    </Dialog>
  );
}
