// Fuzzy search: every letter of the pattern in order; runs and beginnings of words count more.

/// How well `text` fits, or `null`. Both in lower case.
export function score(pattern: string, text: string): number | null {
  if (pattern === "") return 0;
  const whole = text.indexOf(pattern);
  if (whole >= 0) return 1000 - whole - (text.length - pattern.length) / 10 + (whole === 0 ? 100 : 0);
  let points = 0;
  let at = 0;
  let run = 0;
  for (const letter of pattern) {
    if (letter === " ") continue;
    const found = text.indexOf(letter, at);
    if (found < 0) return null;
    run = found === at && at > 0 ? run + 1 : 0;
    const before = found === 0 ? "_" : text[found - 1];
    points += 1 + run * 2 + (/[^a-z0-9]/.test(before ?? "_") ? 3 : 0) - (found - at) / 50;
    at = found + 1;
  }
  return points - text.length / 200;
}

/// The items that fit, best first; all in their order for an empty pattern. At most `limit`.
export function search<T>(pattern: string, items: readonly T[], text: (item: T) => string, limit = Infinity): T[] {
  const wanted = pattern.trim().toLowerCase();
  if (wanted === "") return limit < items.length ? items.slice(0, limit) : [...items];
  const hits: { item: T; points: number }[] = [];
  for (const item of items) {
    const points = score(wanted, text(item).toLowerCase());
    if (points !== null) hits.push({ item, points });
  }
  hits.sort((a, b) => b.points - a.points);
  return hits.slice(0, limit).map((hit) => hit.item);
}

/// Whether an item fits at all.
export const fits = (pattern: string, text: string) => score(pattern.trim().toLowerCase(), text.toLowerCase()) !== null;
