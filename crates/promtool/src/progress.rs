//! Progress of long work, for people: a bar on standard error while that is a terminal, nothing otherwise.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the bar is drawn anew.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Characters of a full bar.
const BAR_CHARS: usize = 40;

/// A bar. What it stands for is up to who moves it: bytes, series, segments.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    visible: bool,
    drawn: Option<Instant>,
}

impl Progress {
    /// For people at a terminal.
    pub fn new(what: &'static str) -> Progress {
        Progress { what, visible: std::io::stderr().is_terminal(), drawn: None }
    }

    /// Never shown.
    pub fn hidden() -> Progress {
        Progress { what: "", visible: false, drawn: None }
    }

    /// Says how far the work is. Cheap enough to be called for every piece of it.
    pub fn at(&mut self, done: u64, total: u64) {
        if !self.visible || self.drawn.is_some_and(|drawn| drawn.elapsed() < DRAW_INTERVAL) {
            return;
        }
        self.drawn = Some(Instant::now());
        // Nobody is told when the terminal has gone.
        let _ = write!(std::io::stderr(), "\r{}", bar(self.what, done, total));
    }
}

impl Drop for Progress {
    /// Leaves the line to whoever writes next.
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(std::io::stderr(), "\r{:1$}\r", "", BAR_CHARS + self.what.len() + 10);
        }
    }
}

fn bar(what: &str, done: u64, total: u64) -> String {
    let part = if total == 0 { 1.0 } else { (done as f64 / total as f64).min(1.0) };
    let full = (part * BAR_CHARS as f64) as usize;
    format!("{what} [{}{}] {:3.0} %", "#".repeat(full), ".".repeat(BAR_CHARS - full), part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_drawn_to_scale() {
        assert!(
            bar("reading", 1, 4).starts_with("reading [##########....") && bar("reading", 1, 4).ends_with("]  25 %")
        );
        for (done, total) in [(0, 0), (5, 4), (4, 4)] {
            assert_eq!(bar("x", done, total).matches('#').count(), BAR_CHARS, "{done} of {total}");
        }
    }
}
