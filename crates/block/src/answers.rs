//! What expressions have found before in the index of a block.
//!
//! A block does not change and dashboards ask the same again and again, so an expression is asked for the many values of a label
//! only once. What is kept is bounded per block; the expression that was used longest ago goes first.

use std::collections::VecDeque;
use std::sync::Arc;

use fk_model::Matcher;
use parking_lot::Mutex;

/// Expressions kept for a block.
const EXPRESSIONS_MAX: usize = 32;

/// Series kept for a block, of all expressions together: 256 KiB.
pub(crate) const SERIES_MAX: usize = 64 << 10;

/// An expression over fewer values is soon asked again. Tests have few values, and ask all the same.
pub(crate) const VALUES_MIN: usize = if cfg!(test) { 2 } else { 1000 };

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<Kept>);

/// The expression used last comes first.
#[derive(Debug, Default)]
struct Kept {
    found: VecDeque<(Matcher, Arc<[u32]>)>,
    series: usize,
}

fn same(a: &Matcher, b: &Matcher) -> bool {
    a.value == b.value && a.name == b.name && a.kind == b.kind
}

impl Answers {
    /// The series that have a hit of this matcher, if that is known.
    pub fn get(&self, matcher: &Matcher) -> Option<Arc<[u32]>> {
        let mut kept = self.0.lock();
        let at = kept.found.iter().position(|(known, _)| same(known, matcher))?;
        let found = kept.found.remove(at)?;
        let series = Arc::clone(&found.1);
        kept.found.push_front(found);
        Some(series)
    }

    /// Keeps what this matcher has found.
    pub fn put(&self, matcher: &Matcher, series: Arc<[u32]>) {
        let mut kept = self.0.lock();
        if kept.found.iter().any(|(known, _)| same(known, matcher)) {
            // Somebody else was as fast.
            return;
        }
        kept.series += series.len();
        kept.found.push_front((matcher.clone(), series));
        while kept.found.len() > EXPRESSIONS_MAX || kept.series > SERIES_MAX {
            let Some((_, series)) = kept.found.pop_back() else { break };
            kept.series -= series.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use fk_model::MatchKind;

    use super::*;

    fn matcher(kind: MatchKind, value: &str) -> Matcher {
        Matcher::new(kind, "a", value).expect("a sound expression")
    }

    #[test]
    fn what_was_found_is_found_again_until_there_is_too_much() {
        let answers = Answers::default();
        let of = |i: usize| matcher(MatchKind::Regex, &format!(".*{i}"));
        answers.put(&of(0), Arc::from([1, 2]));
        assert_eq!(answers.get(&of(0)).as_deref(), Some(&[1, 2][..]));
        assert_eq!(answers.get(&matcher(MatchKind::NotRegex, ".*0")), None);
        assert_eq!(answers.get(&Matcher::new(MatchKind::Regex, "b", ".*0").expect("sound")), None);
        for i in 1..EXPRESSIONS_MAX + 10 {
            answers.put(&of(i), Arc::from([i as u32]));
            assert!(answers.get(&of(0)).is_some(), "what is used stays");
        }
        assert_eq!((answers.get(&of(1)), answers.0.lock().found.len()), (None, EXPRESSIONS_MAX));
        // Many series push others out; too many are not kept.
        answers.put(&of(100), vec![0; SERIES_MAX - 1].into());
        assert!(answers.get(&of(100)).is_some());
        answers.put(&of(101), vec![0; SERIES_MAX + 1].into());
        assert!(answers.get(&of(101)).is_none());
        let kept = answers.0.lock();
        assert!(kept.series <= SERIES_MAX && kept.found.len() <= 2, "{} series", kept.series);
        assert_eq!(kept.series, kept.found.iter().map(|(_, series)| series.len()).sum::<usize>());
    }
}
