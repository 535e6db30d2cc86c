// Text that goes from an editor into the state of a page and comes back with the next rendering. What comes back late is older than
// what stands in the editor by then, and must not replace it: only text that did not come from the editor is set.

/// Texts that may be under way.
const PENDING_MAX = 1000;

export class Echo {
  private pending: string[] = [];
  private setting = false;

  /// The editor's text has changed; tells `listener` unless the change is ours.
  changed(text: string, listener: (text: string) => void) {
    if (this.setting) return;
    this.pending.push(text);
    if (this.pending.length > PENDING_MAX) this.pending.shift();
    listener(text);
  }

  /// The page shows this text; `set` puts it into the editor if it came from elsewhere.
  shown(text: string, set: () => void) {
    const at = this.pending.indexOf(text);
    if (at >= 0) {
      this.pending.splice(0, at + 1);
      return;
    }
    this.pending = [];
    this.setting = true;
    try {
      set();
    } finally {
      this.setting = false;
    }
  }
}
