//! Finding series by matchers: bitmap algebra per shard; expressions are asked once per label value, never per series.
//!
//! Every matcher becomes a set of *hits* among the values of its name. If the matcher refuses series without the label,
//! a series must be in the postings of a hit; otherwise it must not (negative matchers cost an and-not).

use roaring::RoaringBitmap;

use fk_model::{MatchKind, Matcher};

use super::postings::{NamePostings, Posting};
use super::shard::ShardData;
use super::symbols::{SymbolId, Symbols};

/// Values asked while a shard is locked; more are asked first, without the lock.
const VALUES_UNDER_LOCK_MAX: usize = 1024;

/// Values asked in one go while new strings have to wait.
pub(super) const VALUES_GROUP: usize = 4096;

/// Matchers in terms of ids.
#[derive(Debug)]
pub(super) struct Plan<'m> {
    matchers: Vec<Planned<'m>>,
    /// No series can match.
    pub nothing: bool,
}

#[derive(Debug)]
struct Planned<'m> {
    matcher: &'m Matcher,
    name: SymbolId,
    /// Series must have a hit; otherwise they must not have one.
    include: bool,
    hits: Hits,
}

#[derive(Debug)]
enum Hits {
    One(SymbolId),
    All,
    /// An expression that accepts (or refuses) a short list of texts: those of them that anybody has.
    Few(Vec<SymbolId>),
    /// Found out value by value.
    Tested(Verdicts),
}

/// What an expression says of the strings it was asked about: two bits per string, in pages that come when they are needed,
/// because ids are dense and asking a bitmap costs more than many an expression.
#[derive(Debug, Default)]
struct Verdicts {
    pages: Vec<Option<Box<Page>>>,
    /// All hits.
    hits: Vec<SymbolId>,
}

#[derive(Clone, Copy, Debug)]
struct Page {
    tested: [u64; PAGE_WORDS],
    hits: [u64; PAGE_WORDS],
}

/// A page has the verdicts of 4096 strings.
const PAGE_WORDS: usize = 64;
const PAGE_BITS: u32 = 12;

/// Many values have to be asked before the shard can be searched: of which matcher, and which.
#[derive(Debug)]
pub(super) struct Untested {
    matcher_idx: usize,
    values: Vec<SymbolId>,
}

impl<'m> Plan<'m> {
    pub fn new(matchers: &'m [Matcher], symbols: &Symbols) -> Plan<'m> {
        let mut plan = Plan { matchers: Vec::with_capacity(matchers.len()), nothing: false };
        for matcher in matchers {
            let include = !matcher.matches_empty();
            let literal = matches!(matcher.kind, MatchKind::Equal | MatchKind::NotEqual);
            let Some(name) = symbols.find(&matcher.name) else {
                plan.nothing |= include;
                continue;
            };
            let hits = match (literal, matcher.value.is_empty()) {
                (true, true) => Hits::All,
                (true, false) => match symbols.find(&matcher.value) {
                    Some(value) => Hits::One(value),
                    None => {
                        plan.nothing |= include;
                        continue;
                    }
                },
                (false, _) => match few(matcher, include) {
                    Some(texts) => Hits::Few(texts.iter().filter_map(|text| symbols.find(text)).collect()),
                    None => Hits::Tested(Verdicts::default()),
                },
            };
            plan.matchers.push(Planned { matcher, name, include, hits });
        }
        // Cheap sets first, so that expressions meet few candidates.
        plan.matchers.sort_by_key(|m| (!m.include, matches!(m.hits, Hits::Tested(_))));
        plan
    }

    /// The slots of a shard that all matchers accept.
    pub fn find(&mut self, data: &ShardData, symbols: &Symbols) -> Result<RoaringBitmap, Untested> {
        let mut found: Option<RoaringBitmap> = None;
        if self.nothing {
            return Ok(RoaringBitmap::new());
        }
        for (matcher_idx, planned) in self.matchers.iter_mut().enumerate() {
            let Planned { matcher, name, include, hits } = planned;
            let Some(postings) = data.postings.name(*name) else {
                match *include {
                    true => return Ok(RoaringBitmap::new()),
                    false => continue,
                }
            };
            let posting = match hits {
                Hits::All => Some(Posting::Many(&postings.all)),
                Hits::One(value) => data.postings.pair(*name, *value),
                Hits::Few(values) => {
                    let mut slots = RoaringBitmap::new();
                    for posting in values.iter().filter_map(|value| data.postings.pair(*name, *value)) {
                        posting.add_to(&mut slots);
                    }
                    combine(&mut found, Posting::Many(&slots), *include, data);
                    continue;
                }
                Hits::Tested(verdicts) => {
                    let mut hit = |value| verdicts.test(value, matcher, *include, symbols);
                    if let Some(candidates) = &mut found
                        && candidates.len() <= postings.values.len().min(VALUES_UNDER_LOCK_MAX) as u64
                    {
                        // Few candidates: look at their labels instead of at all values.
                        let keep = candidates.iter().filter(|slot| {
                            let words = data.words_of(*slot);
                            let at = symbols.schema(words[0]).iter().position(|n| n == name);
                            at.is_some_and(|at| hit(words[at + 1])) == *include
                        });
                        *candidates = keep.collect();
                        continue;
                    }
                    let untested: Vec<_> =
                        postings.values.iter().copied().filter(|v| verdicts.get(*v).is_none()).collect();
                    if untested.len() > VALUES_UNDER_LOCK_MAX {
                        return Err(Untested { matcher_idx, values: untested });
                    }
                    for value in untested {
                        verdicts.test(value, matcher, *include, symbols);
                    }
                    let of_hits = union(postings, *name, verdicts, data);
                    combine(&mut found, Posting::Many(&of_hits), *include, data);
                    continue;
                }
            };
            match posting {
                Some(posting) => combine(&mut found, posting, *include, data),
                None if *include => return Ok(RoaringBitmap::new()),
                None => {}
            }
        }
        Ok(found.unwrap_or_else(|| data.occupied()))
    }

    /// Asks the values a search lacked; the caller calls this with a group at a time.
    pub fn test(&mut self, untested: &Untested, from: usize, symbols: &Symbols) -> usize {
        let Planned { matcher, include, hits, .. } = &mut self.matchers[untested.matcher_idx];
        let end = untested.values.len().min(from + VALUES_GROUP);
        if let Hits::Tested(verdicts) = hits {
            for value in &untested.values[from..end] {
                verdicts.test(*value, matcher, *include, symbols);
            }
        }
        end
    }
}

impl Untested {
    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }
}

/// The texts that are hits, if the expression has a short list of them. An expression that accepts the empty text (or
/// refuses it, negated) has all others as hits.
fn few(matcher: &Matcher, include: bool) -> Option<&[String]> {
    let by_list = include == (matcher.kind == MatchKind::Regex);
    matcher.regex().and_then(|regex| regex.set_matches()).filter(|_| by_list)
}

impl Verdicts {
    fn place(value: SymbolId) -> (usize, usize, u64) {
        let bit = value & ((1 << PAGE_BITS) - 1);
        ((value >> PAGE_BITS) as usize, (bit / 64) as usize, 1 << (bit % 64))
    }

    /// Whether the value is a hit; `None`: not asked yet.
    #[inline]
    fn get(&self, value: SymbolId) -> Option<bool> {
        let (page, word, bit) = Verdicts::place(value);
        let page = self.pages.get(page)?.as_ref()?;
        (page.tested[word] & bit != 0).then_some(page.hits[word] & bit != 0)
    }

    /// Whether the value is a hit, found out now if need be.
    #[inline]
    fn test(&mut self, value: SymbolId, matcher: &Matcher, include: bool, symbols: &Symbols) -> bool {
        let (page, word, bit) = Verdicts::place(value);
        if page >= self.pages.len() {
            self.pages.resize(page + 1, None);
        }
        let empty = || Box::new(Page { tested: [0; PAGE_WORDS], hits: [0; PAGE_WORDS] });
        let page = self.pages[page].get_or_insert_with(empty);
        if page.tested[word] & bit != 0 {
            return page.hits[word] & bit != 0;
        }
        page.tested[word] |= bit;
        let hit = matcher.matches(symbols.get(value)) == include;
        if hit {
            page.hits[word] |= bit;
            self.hits.push(value);
        }
        hit
    }
}

/// The slots with a hit.
fn union(postings: &NamePostings, name: SymbolId, verdicts: &Verdicts, data: &ShardData) -> RoaringBitmap {
    let add = |slots: &mut RoaringBitmap, value: SymbolId| {
        if let Some(posting) = data.postings.pair(name, value) {
            posting.add_to(slots);
        }
    };
    let mut union = RoaringBitmap::new();
    // Few hits are looked up one by one, whether this shard has them or not.
    if verdicts.hits.len() < postings.values.len() / 4 {
        verdicts.hits.iter().for_each(|value| add(&mut union, *value));
        return union;
    }
    let is_hit = |value: &SymbolId| verdicts.get(*value) == Some(true);
    let n = postings.values.iter().filter(|v| is_hit(v)).count();
    if n == postings.values.len() {
        return postings.all.clone();
    }
    // The smaller side is put together; the rest follows from all series with the name.
    if n * 2 > postings.values.len() {
        let mut others = RoaringBitmap::new();
        postings.values.iter().filter(|v| !is_hit(v)).for_each(|value| add(&mut others, *value));
        return &postings.all - others;
    }
    postings.values.iter().filter(|v| is_hit(v)).for_each(|value| add(&mut union, *value));
    union
}

fn combine(found: &mut Option<RoaringBitmap>, posting: Posting<'_>, include: bool, data: &ShardData) {
    let slots = match (found.as_mut(), include) {
        (None, true) => {
            *found = Some(posting.to_bitmap());
            return;
        }
        (None, false) => found.insert(data.occupied()),
        (Some(slots), _) => slots,
    };
    match (posting, include) {
        (Posting::Many(other), true) => *slots &= other,
        (Posting::Many(other), false) => *slots -= other,
        (Posting::One(slot), false) => {
            slots.remove(slot);
        }
        (Posting::One(slot), true) => {
            let had = slots.contains(slot);
            slots.clear();
            if had {
                slots.insert(slot);
            }
        }
    }
}
