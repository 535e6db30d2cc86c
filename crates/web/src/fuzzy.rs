//! How well a name fits what somebody has typed: the filters and scores behind the search routes. A score is in (0, 1]; 1 is the
//! best. Scores are those of Prometheus bit for bit, so that lists sorted by them have its order.
//!
//! Two ways to compare: *subsequence* wants all characters in their order and likes runs of them; *Jaro-Winkler* takes any
//! part of the name, and beyond that what is similar. Both are bounded for names that are no names: see the constants.

/// Ways to compare, as requests call them.
pub(crate) const ALGORITHMS: [&str; 2] = ["subsequence", "jarowinkler"];

/// Places of a value where the first character of a term is tried. DIFFERENCE: Prometheus tries all, which takes the square of
/// the length.
const STARTS_MAX: usize = 1024;

/// Values longer than this are not compared by similarity. DIFFERENCE: Prometheus compares them, for as long as it takes.
const SIMILAR_BYTES_MAX: usize = 16 << 10;

/// What a match that is not exact loses at least, so that it never looks like an exact one.
const INEXACT: f64 = 0.999;

/// What is searched for: any of some terms.
#[derive(Debug)]
pub(crate) struct Wanted {
    terms: Vec<String>,
    /// Values are compared in lower case.
    folds_case: bool,
    by_similarity: bool,
    /// Lowest score of an inexact match, 0 to 1.
    threshold: f64,
}

impl Wanted {
    /// Looks for any of the terms; `None` if all are empty, which means everything.
    pub(crate) fn new<'t>(
        terms: impl IntoIterator<Item = &'t str>,
        threshold_percent: u8,
        by_similarity: bool,
        case_sensitive: bool,
    ) -> Option<Wanted> {
        let fold = |term: &str| if case_sensitive { term.to_owned() } else { term.to_lowercase() };
        let terms: Vec<String> = terms.into_iter().filter(|term| !term.is_empty()).map(fold).collect();
        let threshold = f64::from(threshold_percent) / 100.0;
        (!terms.is_empty()).then_some(Wanted { terms, folds_case: !case_sensitive, by_similarity, threshold })
    }

    /// The best score of the terms; `None` if none fits.
    pub(crate) fn score(&self, value: &str) -> Option<f64> {
        let folded;
        let value = if self.folds_case {
            folded = value.to_lowercase();
            folded.as_str()
        } else {
            value
        };
        let mut best = None::<f64>;
        for term in &self.terms {
            let Some(score) = self.score_of(term, value) else { continue };
            best = Some(best.map_or(score, |best| best.max(score)));
            if score >= 1.0 {
                break;
            }
        }
        best
    }

    fn score_of(&self, term: &str, value: &str) -> Option<f64> {
        if !self.by_similarity {
            if value.starts_with(term) {
                return Some(1.0);
            }
            return Some(subsequence(term, value)).filter(|score| *score > 0.0 && *score >= self.threshold);
        }
        if let Some(score) = substring(term, value) {
            return Some(score);
        }
        // Without a threshold everything would be similar.
        let compared = self.threshold > 0.0 && value.len() <= SIMILAR_BYTES_MAX;
        compared.then(|| jaro_winkler(term, value)).filter(|score| *score >= self.threshold)
    }
}

/// 1 at the beginning, down to 0.1 at the end.
fn substring(term: &str, value: &str) -> Option<f64> {
    let at = value.find(term)?;
    if at == 0 {
        return Some(1.0);
    }
    let chars = |text: &str| text.chars().count();
    let places = chars(value) - chars(term);
    Some(1.0 - 0.9 * chars(&value[..at]) as f64 / places as f64)
}

/// 0 unless all characters of the term are in the value in their order.
fn subsequence(term: &str, value: &str) -> f64 {
    if term == value {
        return 1.0;
    }
    if term.len() > value.len() {
        return 0.0;
    }
    match (term.is_ascii(), value.is_ascii()) {
        (true, true) => best_subsequence(term.as_bytes(), value.as_bytes()),
        (false, true) => 0.0,
        _ => best_subsequence(&term.chars().collect::<Vec<_>>(), &value.chars().collect::<Vec<_>>()),
    }
}

fn best_subsequence<C: Copy + PartialEq>(term: &[C], value: &[C]) -> f64 {
    let Some(starts) = value.len().checked_sub(term.len()) else { return 0.0 };
    let mut best = -1.0;
    let places = (0..=starts).filter(|at| value[*at] == term[0]);
    for start in places.take(STARTS_MAX) {
        // What cannot be completed from here cannot be from any later place.
        let Some(score) = subsequence_from(term, value, start) else { break };
        best = f64::max(best, score);
    }
    if best < 0.0 { 0.0 } else { best / (term.len() * term.len()) as f64 * INEXACT }
}

/// The squares of the runs, less the gaps as shares of the value; what follows the last run counts half.
fn subsequence_from<C: Copy + PartialEq>(term: &[C], value: &[C], start: usize) -> Option<f64> {
    let share = 1.0 / value.len() as f64;
    let (mut score, mut matched, mut at) = (0.0, 0, start);
    // Behind the last run.
    let mut end = 0;
    while matched < term.len() {
        at += value[at..].iter().position(|c| *c == term[matched])?;
        if at > end {
            score -= (at - end) as f64 * share;
        }
        let run = value[at..].iter().zip(&term[matched..]).take_while(|(a, b)| a == b).count();
        score += (run * run) as f64;
        (matched, at) = (matched + run, at + run);
        end = at;
    }
    if value.len() > end {
        score -= (value.len() - end) as f64 * share * 0.5;
    }
    Some(score)
}

/// Jaro's similarity, with Winkler's bonus for up to four equal characters at the beginning.
fn jaro_winkler(a: &str, b: &str) -> f64 {
    if a == b {
        return 1.0;
    }
    if a.is_ascii() && b.is_ascii() {
        return similarity(a.as_bytes(), b.as_bytes());
    }
    similarity(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>())
}

fn similarity<C: Copy + PartialEq>(a: &[C], b: &[C]) -> f64 {
    let (short, long) = if a.len() > b.len() { (b, a) } else { (a, b) };
    if short.is_empty() {
        return 0.0;
    }
    // How far apart equal characters may be.
    let reach = (long.len() / 2).saturating_sub(1);
    let (mut in_short, mut in_long) = (vec![false; short.len()], vec![false; long.len()]);
    let mut matches = 0.0;
    for (at, c) in short.iter().enumerate() {
        let window = at.saturating_sub(reach)..(at + reach + 1).min(long.len());
        if let Some(place) = window.into_iter().find(|place| !in_long[*place] && long[*place] == *c) {
            (in_short[at], in_long[place]) = (true, true);
            matches += 1.0;
        }
    }
    if matches == 0.0 {
        return 0.0;
    }
    let matched =
        |text: &[C], is: &[bool]| -> Vec<C> { text.iter().zip(is).filter(|(_, is)| **is).map(|(c, _)| *c).collect() };
    let pairs = matched(short, &in_short).into_iter().zip(matched(long, &in_long));
    let transposed = pairs.filter(|(a, b)| a != b).count() as f64;
    let (per_short, per_long) = (1.0 / short.len() as f64, 1.0 / long.len() as f64);
    let jaro = (matches * per_short + matches * per_long + (matches - transposed * 0.5) / matches) / 3.0;
    let prefix = short.iter().zip(long).take(4).take_while(|(a, b)| a == b).count();
    jaro + prefix as f64 * 0.1 * (1.0 - jaro)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn score(term: &str, value: &str, similar: bool, percent: u8) -> Option<f64> {
        Wanted::new([term], percent, similar, true).unwrap().score(value)
    }

    /// The scores come from Prometheus' own routes.
    #[test]
    fn scores_follow_the_rules() {
        for (term, value, similar, percent, expected) in [
            ("up", "up", false, 0, Some(1.0)),
            ("up", "uptime", false, 0, Some(1.0)),
            // One run of two behind a gap of four of six characters.
            ("up", "key_up", false, 0, Some((4.0 - 4.0 * (1.0 / 6.0)) / 4.0 * 0.999)),
            ("zz", "up", false, 0, None),
            ("pu", "up", false, 0, None),
            ("key_up", "up", false, 0, None),
            ("ku", "key_up", false, 90, None),
            ("up", "key_up", true, 0, Some(1.0 - 0.9)),
            ("ey", "key_up", true, 0, Some(1.0 - 0.9 * 1.0 / 4.0)),
            ("martha", "marhta", true, 0, None),
            ("martha", "marhta", true, 50, Some(0.961_111_111_111_111_1)),
            ("martha", "marhta", true, 97, None),
        ] {
            let got = score(term, value, similar, percent);
            let close = match (got, expected) {
                (Some(got), Some(expected)) => (got - expected).abs() < 1e-12,
                (got, expected) => got == expected,
            };
            assert!(close, "{term:?} in {value:?}: {got:?}");
        }
    }

    #[test]
    fn any_term_in_any_case_is_enough() {
        let wanted = Wanted::new(["", "HTTP", "go_"], 0, false, false).unwrap();
        assert_eq!(wanted.score("Http_requests"), Some(1.0));
        assert_eq!(wanted.score("go_gc"), Some(1.0));
        assert_eq!(wanted.score("xyz"), None);
        assert!(Wanted::new(["", ""], 0, false, false).is_none());
    }

    #[test]
    fn long_values_are_bounded() {
        let long = "a".repeat(1 << 16);
        let started = std::time::Instant::now();
        assert_eq!(score("ab", &long, false, 0), None);
        assert!(score("aab", &format!("{long}b"), false, 0).is_some());
        assert_eq!(score("aab", &long, true, 50), None);
        assert!(started.elapsed().as_secs() < 60);
    }

    proptest! {
        #[test]
        fn scores_stay_between_0_and_1(term in "[abé]{1,8}", value in "[abcé]{0,12}", similar: bool, percent in 0u8..=100) {
            if let Some(score) = score(&term, &value, similar, percent) {
                prop_assert!(score > 0.0 && score <= 1.0 + 1e-12, "{score}");
            }
            prop_assert_eq!(Wanted::new([term.as_str()], percent, similar, true).unwrap().score(&term), Some(1.0));
        }

        #[test]
        fn bytes_and_characters_give_the_same_scores(term in "[ab]{1,5}", value in "[abc]{1,12}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(
                best_subsequence(term.as_bytes(), value.as_bytes()),
                best_subsequence(&chars(&term), &chars(&value))
            );
            prop_assert_eq!(similarity(term.as_bytes(), value.as_bytes()), similarity(&chars(&term), &chars(&value)));
        }
    }
}
